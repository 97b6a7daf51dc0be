"""Questions over HTTP while the broker is away for a moment, or loses what it held."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import nats
import pytest

from shared.contracts.envelope import Query
from shared.contracts.events import Delivered, Usage
from shared.nats.subjects import QUERIES
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}]


@asynccontextmanager
async def client(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as http:
        yield http


async def ask(http: httpx.AsyncClient, **request: Any) -> httpx.Response:
    return await http.post("/v1/query", json={"question": "What?"} | request)


async def says(gateway: ServiceProcess, text: str) -> None:
    async def said() -> bool:
        return text in gateway.log

    await until(said, text)


async def test_queries_of_a_moment_without_the_broker_are_answered_when_it_is_back(
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    async with client(own_gateway) as http:
        own_broker.kill()
        await says(own_gateway, "lost the connection")
        held = [asyncio.create_task(ask(http)) for _ in range(5)]
        held += [asyncio.create_task(ask(http, stream=True)) for _ in range(5)]
        assert (await http.get("/readyz")).status_code == 200, "it must stay in its load balancer"
        own_broker.start()
        async with Stages(own_broker.url).running():
            assert [(await task).status_code for task in held] == [200] * 10


async def test_a_query_whose_deadline_passes_without_the_broker_is_told_to_come_again(
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    async with client(own_gateway) as http:
        own_broker.kill()
        await says(own_gateway, "lost the connection")
        for response in (await ask(http, timeout=0.5), await ask(http, timeout=0.5, stream=True)):
            assert response.status_code == 503
            assert response.json()["type"] == "urn:sluice:problem:broker-unavailable"
            assert response.headers["retry-after"] == "1"


async def test_queries_of_a_stream_that_is_made_again_are_submitted_again(
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    """As where a cluster loses its memory, and the gateway's own node has lived through it."""
    async with client(own_gateway) as http:
        waiting = [asyncio.create_task(ask(http)) for _ in range(3)]
        connection = await nats.connect(own_broker.url)
        jetstream = connection.jetstream()

        async def stored() -> bool:
            return (await jetstream.stream_info(QUERIES)).state.messages == 3

        await until(stored, "the queries on their queue")
        await jetstream.delete_stream(QUERIES)
        await connection.close()
        stages = Stages(own_broker.url)
        async with stages.running():
            assert [(await task).status_code for task in waiting] == [200] * 3
        assert len(stages.given["generate"]) == 3, "each is answered once"
        assert "the broker has lost 3 queries in flight" in own_gateway.log


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_of_which_a_part_was_lost_goes_on_from_what_was_delivered(
    own_broker: NatsServer, own_gateway: ServiceProcess, streamed: bool
) -> None:
    """As where the node dies that its worker is connected to, between two parts of the answer."""
    words = "Once upon a time"

    async def generate(query: Query, context: Context) -> None:
        delivered = await context.delivered() or Delivered()
        await context.sources(query.passages)
        if delivered.text:
            await context.resume(delivered)
        for place in range(len(delivered.text), len(words)):
            if query.attempt == 1 and place == 5:
                context._deltas += 1  # which nobody gets
            await context.delta(words[place], tokens=(ord(words[place]),))
        await context.done(usage=Usage(), engine="telling")

    stages = Stages(own_broker.url)
    stages.does["generate"] = generate
    async with stages.running(), client(own_gateway) as http:
        response = await ask(http, stream=streamed)
        if streamed:
            lines = response.text.splitlines()
            assert "event: error" not in lines
            assert lines.count("event: done") == 1
        else:
            assert response.json()["answer"] == words
    assert [query.attempt for query in stages.given["generate"]] == [1, 2]
