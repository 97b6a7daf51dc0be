"""Queries of one tenant that floods wait in the gateway, and the queues of the stages stay free for others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import nats
import pytest

from shared.nats.subjects import QUERIES
from tests.harness.authenticated_gateway import AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import until
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio


class Flooded:
    """A gateway with two places in flight and one spare one, and no worker yet."""

    def __init__(self, gateway: AuthenticatedGateway, broker: NatsServer) -> None:
        self.broker = broker
        self._gateway = gateway
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def add(self, stack: AsyncExitStack, tenant: str) -> None:
        admin = self._gateway.of(tenant)
        admin.post("/v1/collections", json={"name": "docs"}).raise_for_status()
        headers = {"Authorization": admin.headers["authorization"]}
        admin.close()
        self._clients[tenant] = await stack.enter_async_context(
            httpx.AsyncClient(base_url=self._gateway.process.url, headers=headers, trust_env=False, timeout=60)
        )

    def ask(self, tenant: str, number: int = 0) -> asyncio.Task[httpx.Response]:
        body = {"question": f"{tenant} {number}", "collection": "docs"}
        return asyncio.create_task(self._clients[tenant].post("/v1/query", json=body))

    async def stored(self) -> dict[str, int]:
        """Queries in the queue of the first stage, by tenant."""
        connection = await nats.connect(self.broker.url)
        info = await connection.jetstream().stream_info(QUERIES, subjects_filter="query.embed.>")
        await connection.close()
        return {subject.rpartition(".")[2]: count for subject, count in (info.state.subjects or {}).items()}

    async def holds(self, waiting: int, stored: dict[str, int]) -> bool:
        text = self._gateway.admin.get("/metrics").text
        lines = [line for line in text.splitlines() if line.startswith("sluice_gateway_queries_waiting{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines) == waiting and await self.stored() == stored


@asynccontextmanager
async def flooded(broker: NatsServer, folder: Path, **settings: object) -> AsyncIterator[Flooded]:
    places = {"query_window": 2, "query_spare": 1}
    with authenticated_gateway(broker, folder, **places, **settings) as gateway:
        async with AsyncExitStack() as stack:
            platform = Flooded(gateway, broker)
            for tenant in ("many", "few"):
                await platform.add(stack, tenant)
            yield platform


async def test_a_newcomers_query_is_queued_before_those_that_wait(own_broker: NatsServer, tmp_path: Path) -> None:
    async with flooded(own_broker, tmp_path) as platform:
        asked = [platform.ask("many", number) for number in range(6)]
        await until(lambda: platform.holds(4, {"many": 2}))
        asked.append(platform.ask("few"))
        await until(lambda: platform.holds(4, {"many": 2, "few": 1}))
        async with Stages(own_broker.url).running():
            assert [(await task).status_code for task in asked] == [200] * 7
        await until(lambda: platform.holds(0, {}))


async def test_a_query_that_waits_is_dropped_when_its_client_leaves(own_broker: NatsServer, tmp_path: Path) -> None:
    async with flooded(own_broker, tmp_path) as platform:
        asked = [platform.ask("many", number) for number in range(3)]
        await until(lambda: platform.holds(1, {"many": 2}))
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        late = platform.ask("many", 9)
        async with Stages(own_broker.url).running():
            assert (await late).status_code == 200
        await until(lambda: platform.holds(0, {}))


async def test_of_one_tenant_no_more_wait_than_in_a_queue(own_broker: NatsServer, tmp_path: Path) -> None:
    async with flooded(own_broker, tmp_path, queue_limit=2) as platform:
        asked = [platform.ask("many", number) for number in range(4)]
        await until(lambda: platform.holds(2, {"many": 2}))
        refused = await platform.ask("many", 9)
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:sluice:problem:queue-full"
        assert refused.headers["retry-after"] == "1"
        async with Stages(own_broker.url).running():
            assert (await platform.ask("few")).status_code == 200
            assert [(await task).status_code for task in asked] == [200] * 4
