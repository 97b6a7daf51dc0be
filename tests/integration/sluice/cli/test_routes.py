"""`sluice routes` and the client's routes, against a real gateway."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator

import pytest

import sluice
from sluice.cli import main
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(gateway: ServiceProcess) -> Iterator[sluice.Client]:
    """A client of the gateway, whose stages have no routes."""
    with sluice.Client(gateway.url) as client:
        for route in client.routes():
            if route.revision:
                client.delete_route(route.stage)
        yield client


@pytest.fixture
def run(
    client: sluice.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `sluice routes ARG...` against the gateway: exit status, output, error output."""
    monkeypatch.setenv("SLUICE_URL", client.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LOGNAME", "maria")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sluice", "routes", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


def rows(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


@pytest.mark.anyio
async def test_weights_and_shadows_are_set_shown_and_reset(run: Run, broker: NatsServer) -> None:
    async with Stages(broker.url).running(("generate",)):
        set_to = await asyncio.to_thread(run, "set", "generate", "default=90", "canary=10%")
        shadowed = await asyncio.to_thread(run, "shadow", "generate", "next=2.5")
        listed = await asyncio.to_thread(run)
        reset = await asyncio.to_thread(run, "reset", "generate")
        after = await asyncio.to_thread(run, "list")
    assert rows(set_to[1]) == [
        ["generate", "default", "90", "90 %", "1", "-"],
        ["generate", "canary", "10", "10 %", "no worker", "-"],
    ]
    assert set_to[2] == "No worker serves generate/canary: 10 % of the queries wait for one until their deadline.\n"
    assert rows(shadowed[1]) == [*rows(set_to[1]), ["generate", "next", "-", "0 %", "no worker", "2.5 %"]]
    assert listed == shadowed
    assert reset == (0, "Stage generate sends everything to default.\n", "")
    assert after == (0, "generate\tdefault\t1\t100 %\t1\t-\n", "")


def test_a_shadow_is_added_changed_and_taken_away_without_touching_the_others(run: Run, client: sluice.Client) -> None:
    def shadows() -> dict[str, float]:
        return client.route("generate").shadows

    assert run("shadow", "generate", "canary=5", "next=1")[0] == 0
    assert (shadows(), client.route("generate").weights) == ({"canary": 5, "next": 1}, {"default": 1})
    run("set", "generate", "default=3", "canary=1")
    run("shadow", "generate", "next=2")
    assert (shadows(), client.route("generate").weights) == ({"canary": 5, "next": 2}, {"default": 3, "canary": 1})
    run("shadow", "generate", "canary=off")
    assert shadows() == {"next": 2}
    run("shadow", "generate", "off")
    assert shadows() == {}


def test_json_is_the_whole_route_and_says_who_set_it(run: Run) -> None:
    status, output, _ = run("set", "generate", "canary=1", "--json")
    route = json.loads(output)
    assert (status, route["stage"], route["updated_by"]) == (0, "generate", "maria")
    assert [(v["variant"], v["share"]) for v in route["variants"]] == [("canary", 100.0)]
    assert [each["stage"] for each in json.loads(run("--json")[1])] == ["generate"]
    assert json.loads(run("reset", "generate", "--json")[1]) == {"stage": "generate", "reset": True}
    assert json.loads(run("reset", "generate", "--json")[1]) == {"stage": "generate", "reset": False}


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "generate"),
        ("set", "generate", "default"),
        ("set", "generate", "=1"),
        ("set", "generate", "default="),
        ("set", "generate", "default=much"),
        ("set", "generate", "default=-1"),
        ("set", "generate", "default=nan"),
        ("set", "generate", "default=0"),
        ("set", "generate", "canary=1", "canary=2"),
        ("shadow", "generate", "canary=101"),
        ("shadow", "generate", "canary=5", "off"),
    ],
)
def test_what_is_no_weight_is_wrong_usage_and_changes_nothing(
    run: Run, client: sluice.Client, arguments: tuple[str, ...]
) -> None:
    assert run(*arguments)[0] == 2
    assert client.routes() == []


def test_a_name_that_can_be_no_variant_is_refused_with_its_place(run: Run) -> None:
    status, _, error = run("set", "generate", "Big=1")
    assert status == 1
    assert "weights.Big" in error


def test_a_change_of_what_somebody_else_has_changed_is_an_error(client: sluice.Client) -> None:
    seen = client.set_route("generate", {"canary": 1})
    client.set_route("generate", {"canary": 2}, revision=seen.revision)
    for change in (
        lambda: client.set_route("generate", {"canary": 3}, revision=seen.revision),
        lambda: client.delete_route("generate", revision=seen.revision),
    ):
        with pytest.raises(sluice.SluiceError) as caught:
            change()
        assert caught.value.code == "precondition-failed"
    assert client.route("generate").weights == {"canary": 2}


@pytest.mark.anyio
async def test_the_asynchronous_client_sets_and_shows_routes(gateway: ServiceProcess, client: sluice.Client) -> None:
    async with sluice.AsyncClient(client.url) as awaited:
        route = await awaited.set_route("embed", {"default": 1}, shadows={"int8": 10}, by="Ada")
        assert await awaited.routes() == [route]
        assert (route.shadows, route.updated_by) == ({"int8": 10}, "Ada")
        await awaited.delete_route("embed")
        assert await awaited.routes() == []
