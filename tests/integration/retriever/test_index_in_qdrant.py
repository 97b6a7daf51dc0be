"""A retriever whose index is in Qdrant: it waits for the server, tells of it, and keeps its key to itself."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.qdrant import QdrantServer

KEY, WRONG = "hush-hush", "shout-shout"


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    server = QdrantServer(KEY)
    yield server
    server.stop()


def readiness(process: ServiceProcess) -> tuple[int, str]:
    answer = httpx.get(f"{process.url}/readyz", trust_env=False, timeout=60)
    return answer.status_code, answer.text


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_retriever_is_ready_while_its_qdrant_answers_and_says_why_it_is_not(
    own_broker: NatsServer, server: QdrantServer, tmp_path: Path
) -> None:
    server.start()
    server.stop()
    process = ServiceProcess(
        "services.retriever", tmp_path, nats_url=own_broker.url, index_uri=f"{server.uri}/x", index_api_key=KEY
    )
    process.start()
    try:
        eventually(lambda: _answers(process) and "no connection can be made" in readiness(process)[1])
        server.start()
        # A canary has gone through both stages, so that it was written to Qdrant and found there.
        process.wait_ready()
        server.stop()
        eventually(lambda: readiness(process)[0] == 503)
        assert "does not answer" in readiness(process)[1]
        server.start()
        eventually(lambda: readiness(process)[0] == 200)
        assert KEY not in process.log
        assert process.stop() == 0
    finally:
        process.__exit__(None, None, None)


def test_a_retriever_whose_key_is_refused_ends_and_says_so(
    own_broker: NatsServer, server: QdrantServer, tmp_path: Path
) -> None:
    server.start()
    process = ServiceProcess(
        "services.retriever", tmp_path, nats_url=own_broker.url, index_uri=server.uri, index_api_key=WRONG
    )
    process.start()
    assert process.wait(120) != 0
    assert "SLUICE_INDEX_API_KEY" in process.log
    assert WRONG not in process.log


def _answers(process: ServiceProcess) -> bool:
    try:
        readiness(process)
    except httpx.TransportError:
        return False
    return True
