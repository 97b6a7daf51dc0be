"""A worker that is killed while it reranks loses no request."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.rerank_server import RerankServer

pytestmark = pytest.mark.anyio


async def test_another_worker_takes_over_from_one_that_was_killed(
    own_broker: NatsServer, own_gateway: ServiceProcess, tmp_path: Path
) -> None:
    async with RerankServer(mode="hang").run() as server:
        worker = ServiceProcess(
            "services.embedder",
            tmp_path,
            nats_url=own_broker.url,
            embedder_serves="rerank",
            reranker="remote",
            rerank_url=f"{server.url}/v2/rerank",
            rerank_api_key=server.key,
            rerank_timeout=60,
        )
        async with httpx.AsyncClient(base_url=own_gateway.url, timeout=90, trust_env=False) as client:
            with worker:
                body = {"query": "a b", "documents": ["c", "a b"], "timeout": 60}
                asked = asyncio.create_task(client.post("/v1/rerank", json=body))
                await server.asked.wait()
                worker.kill()
                server.mode = "answer"
                worker.start()
                response = await asked
    assert [one["index"] for one in response.raise_for_status().json()["results"]] == [1, 0]
    assert len(server.requests) == 2
