"""A new version of everything: each service is restarted in turn under load, with credentials, and no query fails.

There are two gateways, and whoever asks tries the other one when a connection is refused or breaks before an answer,
as a load balancer does. Of the rest there is one replica each: while it restarts, queries wait in its queue.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.harness.processes import ServiceProcess
from tests.harness.secured_broker import SERVICES, Platform, secured_broker, secured_platform
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

CLIENTS = 6
PAUSE = 0.2
"""Seconds of an asker between two queries: more would be a test of speed, and take it from the services' starts."""

BETWEEN = 20
"""Answers that must come between two restarts."""


class Load:
    """Asks all the time, each asker one query after the other."""

    def __init__(self, gateways: list[ServiceProcess]) -> None:
        self._gateways = gateways
        self.outcomes: Counter[str] = Counter()
        self.moved = 0

    async def run(self) -> None:
        # No connection is kept: one that a gateway closes while it is idle says nothing about queries.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(trust_env=False, timeout=90, limits=limits) as http, asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._ask(http, number))

    async def _ask(self, http: httpx.AsyncClient, turn: int) -> None:
        while True:
            turn += 1
            try:
                response = await self._send(http, turn)
            except httpx.TransportError as error:
                self.outcomes[repr(error)] += 1
            else:
                told = "answer" if response.is_success and "Ottilie" in response.text else response.text
                self.outcomes[told] += 1
            await asyncio.sleep(PAUSE)

    async def _send(self, http: httpx.AsyncClient, turn: int) -> httpx.Response:
        body = {"question": "Who built the blue lamp?", "collection": "lamps", "timeout": 60}
        first, other = (self._gateways[(turn + offset) % len(self._gateways)] for offset in (0, 1))
        with suppress(httpx.ConnectError, httpx.ReadError):
            return await http.post(f"{first.url}/v1/query", json=body)
        self.moved += 1
        return await http.post(f"{other.url}/v1/query", json=body)

    async def more(self) -> None:
        """Wait for some more outcomes."""
        enough = self.outcomes.total() + BETWEEN

        async def came() -> bool:
            return self.outcomes.total() >= enough

        await until(came, f"{BETWEEN} more answers, after {self.outcomes}", patience=90)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("rolling")
    with secured_broker(folder / "broker") as broker, secured_platform(broker, folder / "platform") as running:
        yield running


async def fill(platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False, timeout=60) as http:
        await http.post("/v1/collections", json={"name": "lamps"})
        documents = [{"name": "lamp.txt", "text": "The blue lamp was built by Ottilie Brandt in 1911."}]
        job = (await http.post("/v1/collections/lamps/documents", json={"documents": documents})).json()["job"]["id"]

        async def indexed() -> bool:
            return bool((await http.get(f"/v1/jobs/{job}")).json()["state"] == "succeeded")

        await until(indexed, "the lamp indexed")


@pytest.mark.timeout(600)
async def test_every_service_is_restarted_in_turn_under_load_and_no_query_fails(
    platform: Platform, tmp_path: Path
) -> None:
    await fill(platform)
    processes = platform.processes
    settings = platform.broker.settings("gateway")
    with ServiceProcess("services.gateway", tmp_path, **settings) as second:
        load = Load([processes["gateway"], second])
        running = asyncio.create_task(load.run())
        await load.more()
        for process in (*(processes[name] for name in SERVICES), second):
            assert await asyncio.to_thread(process.stop) == 0, process.log
            process.start()
            await asyncio.to_thread(process.wait_ready, 90)
            await load.more()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert set(load.outcomes) == {"answer"}, load.outcomes
    assert load.moved > 0, "no asker met a gateway that was away, so the restart of a gateway was not tried"
    assert platform.violations == []
