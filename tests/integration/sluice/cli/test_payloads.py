"""`sluice payloads` against a real gateway."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

from shared.contracts.payloads import InferencePayload, PayloadKind
from shared.stores.payload_log import PayloadLog
from sluice.cli import main
from tests.harness.authenticated_gateway import ADMIN, AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    with authenticated_gateway(broker, tmp_path_factory.mktemp("gateway")) as gateway:
        write(broker, *(payload(number) for number in range(120)), payload(0, model="other"))
        yield gateway


def payload(number: int, *, model: str = "iris") -> InferencePayload:
    return InferencePayload(
        id=f"{model}-{number}",
        kind=PayloadKind.REQUEST,
        tenant="default",
        model=model,
        at=1_800_000_000.0 + number,
        reader="user:\x1b[31mines",
        size=1234,
        truncated=True,
        data=json.dumps({"inputs": [{"name": "t", "data": ["\x1b[31m \u202e" + "x" * 100]}]}).encode(),
    )


def write(broker: NatsServer, *payloads: InferencePayload) -> None:
    async def written() -> None:
        connection = await nats.connect(broker.url)
        for one in payloads:
            await PayloadLog(connection.jetstream()).write(one)
        await connection.close()

    asyncio.run(written())


@pytest.fixture
def run(gateway: AuthenticatedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `sluice ARG...` as an admin: exit status, output, error output."""
    monkeypatch.setenv("SLUICE_URL", gateway.process.url)
    monkeypatch.setenv("SLUICE_API_KEY", ADMIN)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sluice", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


def test_payloads_are_listed_the_newest_first(run: Run) -> None:
    status, output, _ = run("payloads", "--model", "iris", "-n", "3", "--json")
    assert (status, [one["id"] for one in json.loads(output)]) == (0, ["iris-119", "iris-118", "iris-117"])
    status, output, _ = run("payloads", "list", "--id", "other-0")
    (line,) = output.splitlines()
    fields = line.split("\t")
    assert fields[:4] == ["other-0", "request", "other", "-"]
    assert fields[5:7] == ["user:[31mines", "1,234+"]
    assert fields[7].startswith('{"inputs": [{"name": "t", "data": ["\\u001b')
    assert run("payloads", "--kind", "response", "--json")[1] == "[]\n"


def test_all_are_exported_page_by_page(run: Run, tmp_path: Path) -> None:
    status, _, errors = run("payloads", "export", "--model", "iris", "-o", str(tmp_path / "iris.jsonl"))
    assert (status, errors) == (0, f"{tmp_path / 'iris.jsonl'}: 120 payloads\n")
    lines = [json.loads(line) for line in (tmp_path / "iris.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"iris-{number}" for number in reversed(range(120))]
    assert len(run("payloads", "export")[1].splitlines()) >= 121
    status, _, errors = run("payloads", "export", "-o", str(tmp_path / "missing" / "iris.jsonl"))
    assert (status, "No such file" in errors) == (2, True)


def test_what_comes_is_followed(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    environment = os.environ | {"SLUICE_URL": gateway.process.url, "SLUICE_API_KEY": ADMIN}
    command = [sys.executable, "-m", "sluice", "payloads", "tail", "--model", "followed", "--json"]
    # Tests that run in the background ignore the signal, and what they start would inherit that.
    known = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, known)
    with process as following:
        assert following.stdout is not None
        try:
            # What is there when it starts is not shown, so another comes until one is.
            found: list[str] = []

            async def read() -> None:
                assert following.stdout is not None
                line = asyncio.create_task(asyncio.to_thread(following.stdout.readline))
                connection = await nats.connect(broker.url)
                number = 0
                while not line.done():
                    await PayloadLog(connection.jetstream()).write(payload(number, model="followed"))
                    number += 1
                    await asyncio.wait([line], timeout=0.2)
                found.append(line.result())
                await connection.close()

            asyncio.run(asyncio.wait_for(read(), 60))
            assert json.loads(found[0])["model"] == "followed"
            following.send_signal(signal.SIGINT)
            assert following.wait(30) == 130
        finally:
            following.kill()
