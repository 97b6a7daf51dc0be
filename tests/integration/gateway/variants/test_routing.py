"""Variants by weight, through a real gateway: shares, stickiness, and what the API says of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.variants.selector import choose
from shared.contracts.routes import Route
from tests.harness.broker import NatsServer
from tests.harness.gateways import running_gateway
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

PIPELINES = """
pipelines:
  default: [generate]
  pinned: [{stage: generate, variant: legal}]
"""
TENTH = {"default": 90, "canary": 10}


@pytest.fixture(scope="module")
def gateway_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return settings(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture
async def http(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway, whose stages have no routes."""
    async with connected(gateway) as client:
        for route in (await client.get("/v1/routes")).json()["routes"]:
            if route["revision"]:
                (await client.delete(f"/v1/routes/{route['stage']}")).raise_for_status()
        yield client


def settings(folder: Path) -> dict[str, object]:
    (folder / "pipelines.yaml").write_text(PIPELINES)
    return {"pipelines": folder / "pipelines.yaml"}


@asynccontextmanager
async def connected(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        (await client.post("/v1/collections", json={"name": "default"})).raise_for_status()
        yield client


@asynccontextmanager
async def served(broker: NatsServer, *variants: str) -> AsyncIterator[None]:
    """Serve these variants of the stage `generate`."""
    async with Stages(broker.url).running(("generate",), variants[0]):
        if variants[1:]:
            async with served(broker, *variants[1:]):
                yield
        else:
            yield


async def route(http: httpx.AsyncClient, stage: str = "generate", **members: Any) -> dict[str, Any]:
    response = await http.put(f"/v1/routes/{stage}", json=members)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def answered_by(http: httpx.AsyncClient, **request: Any) -> str:
    """The variant of the generator that answers a question."""
    response = await http.post("/v1/query", json={"question": "What?"} | request)
    assert response.status_code == 200, response.text
    return str(response.json()["timings"]["stages"][-1]["variant"])


async def in_force(http: httpx.AsyncClient, weights: dict[str, float]) -> None:
    """Wait until conversations go where these weights send them; the first few are enough to tell them from others."""
    route = Route(stage="generate", weights=weights)
    for n in range(20):
        expected = choose(route, f"probe-{n}")
        await until(lambda n=n, e=expected: goes_to(http, f"probe-{n}", e), f"weights {weights}")


async def goes_to(http: httpx.AsyncClient, conversation: str, variant: str) -> bool:
    return await answered_by(http, conversation=conversation) == variant


def code(response: httpx.Response) -> str:
    return str(response.json()["type"]).removeprefix("urn:sluice:problem:")


async def test_weights_take_effect_and_are_taken_back_without_a_restart(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    async with served(broker, "default", "canary"):
        assert await answered_by(http) == "default"
        for weights, variant in (({"canary": 1}, "canary"), ({"default": 1}, "default"), ({"canary": 5}, "canary")):
            await route(http, weights=weights)
            await until(lambda v=variant: goes_to(http, "any", v), f"answers by {variant}")
        assert (await http.delete("/v1/routes/generate")).status_code == 204
        await until(lambda: goes_to(http, "any", "default"), "answers by default")


async def test_a_canary_at_ten_percent_takes_ten_percent_of_two_thousand_queries(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    some = asyncio.Semaphore(32)

    async def asked(conversation: str) -> str:
        async with some:
            return await answered_by(http, conversation=conversation)

    async with served(broker, "default", "canary"):
        await route(http, weights=TENTH)
        await in_force(http, TENTH)
        conversations = [f"conversation-{n}" for n in range(2000)]
        answers = await asyncio.gather(*map(asked, conversations))
    assert 0.08 <= Counter(answers)["canary"] / 2000 <= 0.12
    # The conversations are fixed, and so is where each one goes.
    assert answers == [choose(Route(stage="generate", weights=TENTH), each) for each in conversations]


async def test_a_conversation_never_changes_its_variant(broker: NatsServer, http: httpx.AsyncClient) -> None:
    conversations = [f"conversation-{n}" for n in range(20)]
    half = {"default": 50, "canary": 50}
    async with served(broker, "default", "canary"):
        await route(http, weights=half)
        await in_force(http, half)
        first = [await answered_by(http, conversation=each) for each in conversations]
        assert set(first) == {"default", "canary"}
        # Neither the question, nor another stage's weights, nor the same proportions in other numbers move one.
        await route(http, "embed", weights=TENTH)
        await route(http, weights={"canary": 1, "default": 1})
        for question in ("And then?", "Why?", "Since when?"):
            again = [await answered_by(http, question=question, conversation=each) for each in conversations]
            assert again == first


async def test_a_pipeline_that_names_a_variant_keeps_it(broker: NatsServer, http: httpx.AsyncClient) -> None:
    async with served(broker, "canary", "legal"):
        await route(http, weights={"canary": 1})
        await in_force(http, {"canary": 1})
        assert await answered_by(http, pipeline="pinned") == "legal"


async def test_two_gateways_send_a_conversation_to_the_same_variant(
    broker: NatsServer, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    half = {"default": 50, "canary": 50}
    with running_gateway(broker, tmp_path, **settings(tmp_path)) as second:
        async with served(broker, "default", "canary"), connected(second) as other:
            await route(other, weights=half)
            for each in (http, other):
                await in_force(each, half)
            for n in range(20):
                name = f"conversation-{n}"
                assert await answered_by(http, conversation=name) == await answered_by(other, conversation=name)


async def test_a_query_waits_for_the_first_worker_of_its_variant(broker: NatsServer, http: httpx.AsyncClient) -> None:
    async with served(broker, "default"):
        written = await route(http, weights={"canary": 1})
        assert written["warnings"] == [
            "No worker serves generate/canary: 100 % of the queries wait for one until their deadline."
        ]

        async def told() -> list[str]:
            return list((await http.get("/v1/status")).json()["warnings"])

        assert await until(told, "the warning in the status") == written["warnings"]
        late = await http.post("/v1/query", json={"question": "What?", "timeout": 0.5})
        assert (late.status_code, code(late)) == (503, "stage-unavailable")
        assert "variant 'canary'" in late.json()["detail"]
        pending = asyncio.create_task(answered_by(http))
        async with served(broker, "canary"):
            assert await pending == "canary"
            assert (await http.get("/v1/status")).json()["warnings"] == []


async def test_routes_outlive_the_broker_and_go_on_being_followed(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as broker, running_gateway(broker, tmp_path, **settings(tmp_path)) as gateway:
        async with served(broker, "default", "canary"), connected(gateway) as http:
            await route(http, weights={"canary": 1})
            await in_force(http, {"canary": 1})
            broker.kill()
            broker.start()
            await until(lambda: ready(http), "readiness")
            assert await answered_by(http) == "canary"
            assert (await http.get("/v1/routes/generate")).json()["revision"] == 1
            await route(http, weights={"default": 1})
            await until(lambda: goes_to(http, "any", "default"), "answers by default")


async def ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200


async def test_the_list_shows_every_stage_with_its_variants(broker: NatsServer, http: httpx.AsyncClient) -> None:
    async with served(broker, "default"):
        await route(http, weights=TENTH, shadows={"next": 2.5}, by="Maria")
        routes = (await http.get("/v1/routes")).json()["routes"]
    (shown,) = (route for route in routes if route["stage"] == "generate")
    rows = [(v["variant"], v["weight"], v["share"], v["shadow"], v["workers"]) for v in shown["variants"]]
    assert rows == [("default", 90, 90, 0, 1), ("canary", 10, 10, 0, 0), ("next", 0, 0, 2.5, 0)]
    assert (shown["stage"], shown["updated_by"], len(shown["warnings"])) == ("generate", "Maria", 2)
    assert shown["updated_at"] > 0


async def test_a_change_of_what_somebody_else_has_changed_is_refused(http: httpx.AsyncClient) -> None:
    body = {"weights": TENTH}
    none_yet = {"If-Match": '"0"'}
    first = await http.put("/v1/routes/generate", json=body, headers=none_yet)
    assert first.headers["etag"] == f'"{first.json()["revision"]}"'
    assert (await http.get("/v1/routes/generate")).headers["etag"] == first.headers["etag"]
    seen = {"If-Match": f'W/"x", {first.headers["etag"]}'}
    assert (await http.put("/v1/routes/generate", json=body, headers=seen)).status_code == 200
    for headers in (none_yet, seen):
        for method in ("PUT", "DELETE"):
            late = await http.request(method, "/v1/routes/generate", json=body, headers=headers)
            assert (late.status_code, code(late)) == (412, "precondition-failed")
    assert (await http.delete("/v1/routes/generate", headers={"If-Match": "*"})).status_code == 204
    late = await http.put("/v1/routes/generate", json=body, headers={"If-Match": "*"})
    assert (late.status_code, code(late)) == (412, "precondition-failed")


@pytest.mark.parametrize(
    "body",
    [
        {"weights": {"default": 0}},
        {"weights": {"default": -1}},
        {"weights": {"default": "90"}},
        {"weights": {"No Name": 1}},
        {"shadows": {"canary": 100.1}},
        {"weigths": {"default": 1}},
        {"weights": {f"v{n}": 1 for n in range(33)}},
        [],
    ],
)
async def test_a_route_that_makes_no_sense_is_refused(http: httpx.AsyncClient, body: Any) -> None:
    response = await http.put("/v1/routes/generate", json=body)
    assert (response.status_code, code(response)) == (422, "invalid-request")
    missing = await http.delete("/v1/routes/generate")
    assert (missing.status_code, code(missing)) == (404, "not-found")


async def test_a_stage_that_no_query_visits_takes_no_route(http: httpx.AsyncClient) -> None:
    response = await http.put("/v1/routes/index", json={"weights": {"default": 1}})
    assert (response.status_code, code(response)) == (422, "invalid-request")
    assert "No query visits" in response.json()["detail"]


async def test_a_stage_that_nobody_knows_is_not_found_and_a_wrong_name_is_no_request(http: httpx.AsyncClient) -> None:
    for method in ("GET", "DELETE"):
        missing = await http.request(method, "/v1/routes/nothing")
        assert (missing.status_code, code(missing)) == (404, "not-found")
        wrong = await http.request(method, "/v1/routes/No%20Name")
        assert (wrong.status_code, code(wrong)) == (422, "invalid-request")
