"""Questions over HTTP while things break, fill up and stop."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from shared.contracts.envelope import Query
from shared.contracts.events import Delivered, Usage
from shared.nats.subjects import QUERIES
from shared.runtime.stage import Context, Process
from tests.harness.broker import NatsServer
from tests.harness.gateways import running_gateway
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until
from tests.harness.stages import Stages, answer_with

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, object]:
    return {"queue_limit": 100, "grace_seconds": 10}


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}]


@asynccontextmanager
async def client(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60, limits=limits) as http:
        yield http


async def ask(http: httpx.AsyncClient, **request: Any) -> httpx.Response:
    return await http.post("/v1/query", json={"question": "What?"} | request)


async def stream(http: httpx.AsyncClient, **request: Any) -> list[ServerSentEvent]:
    body = {"question": "What?", "stream": True} | request
    async with aconnect_sse(http, "POST", "/v1/query", json=body) as source:
        return [event async for event in source.aiter_sse()]


def text_of(events: list[ServerSentEvent]) -> str:
    return "".join(event.json()["text"] for event in events if event.event == "delta")


def stuck_at_first(stuck_after: str, then: Process) -> Process:
    """A generator that never goes on after its first words on the first attempt."""

    async def generate(query: Query, context: Context) -> None:
        if query.attempt > 1:
            await then(query, context)
            return
        await context.sources(query.passages)
        await context.delta(stuck_after)
        await asyncio.Event().wait()

    return generate


async def two_wait(broker: NatsServer) -> bool:
    connection = await nats.connect(broker.url)
    try:
        return (await connection.jetstream().stream_info(QUERIES)).state.messages == 2
    finally:
        await connection.close()


async def unready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 503


async def alive(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/livez")).status_code == 200
    except httpx.TransportError:
        return False


async def gone(http: httpx.AsyncClient) -> bool:
    return not await alive(http)


async def test_a_full_queue_is_429_with_retry_after(own_broker: NatsServer, tmp_path: Path) -> None:
    with ServiceProcess("services.gateway", tmp_path, nats_url=own_broker.url, queue_limit=2) as gateway:
        async with client(gateway) as http:
            (await http.post("/v1/collections", json={"name": "default"})).raise_for_status()
            waiting = [asyncio.create_task(ask(http)) for _ in range(2)]
            await until(lambda: two_wait(own_broker))
            refused = [await ask(http), await ask(http, stream=True)]
            for response in refused:
                assert response.status_code == 429
                assert response.json()["type"] == "urn:sluice:problem:queue-full"
                assert response.json()["stage"] == "embed"
                assert response.headers["retry-after"] == "1"
            async with Stages(own_broker.url).running():
                assert [(await task).status_code for task in waiting] == [200, 200]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_query_survives_the_death_of_the_broker(
    own_broker: NatsServer, own_gateway: ServiceProcess, streamed: bool
) -> None:
    stages = Stages(own_broker.url)
    stages.does["generate"] = stuck_at_first("Hello w", answer_with("He", "llo wor", "ld"))
    async with stages.running(), client(own_gateway) as http:
        pending = asyncio.create_task(stream(http) if streamed else ask(http))
        await stages.arrived("generate")
        own_broker.kill()
        own_broker.start()
        answer = await pending
    if isinstance(answer, httpx.Response):
        assert answer.json()["answer"] == "Hello world"
    else:
        assert text_of(answer) == "Hello world"
        assert [event.event for event in answer if event.event != "delta"] == ["sources", "done"]


async def test_a_stream_says_so_where_the_second_attempt_answers_differently(
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    stages, told = Stages(own_broker.url), asyncio.Event()
    stages.does["generate"] = stuck_at_first("Hello", answer_with("Goodbye"))
    async with stages.running(), client(own_gateway) as http:
        body = {"question": "What?", "stream": True}
        async with aconnect_sse(http, "POST", "/v1/query", json=body) as source:
            events = []
            async for event in source.aiter_sse():
                events.append(event)
                if event.event == "delta" and not told.is_set():
                    told.set()
                    own_broker.kill()
                    own_broker.start()
    assert text_of(events) == "Hello"
    assert events[-1].event == "error"
    assert events[-1].json()["type"] == "urn:sluice:problem:answer-interrupted"


def resumed_answer(words: str, breaks: Callable[[int], Awaitable[None]]) -> Process:
    """A generator that goes on after what was delivered, a letter at a time, and may break after each one."""

    async def generate(query: Query, context: Context) -> None:
        delivered = await context.delivered() or Delivered()
        await context.sources(query.passages)
        if delivered.text:
            assert "".join(map(chr, delivered.tokens)) == delivered.text
            await context.resume(delivered)
        for place in range(len(delivered.text), len(words)):
            await context.delta(words[place], tokens=(ord(words[place]),))
            await breaks(place)
        await context.done(usage=Usage(), engine="telling")

    return generate


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_redelivered_answer_goes_on_from_what_was_delivered(
    own_broker: NatsServer, own_gateway: ServiceProcess, streamed: bool
) -> None:
    breaking = {4, 9, 12}

    async def fail_once_each(place: int) -> None:
        if place in breaking:
            breaking.discard(place)
            raise RuntimeError("the worker is lost")

    stages = Stages(own_broker.url)
    stages.does["generate"] = resumed_answer("Once upon a time", fail_once_each)
    async with stages.running(), client(own_gateway) as http:
        if streamed:
            events = await stream(http)
            assert text_of(events) == "Once upon a time"
            assert [event.event for event in events].count("sources") == 1
        else:
            assert (await ask(http)).json()["answer"] == "Once upon a time"
    assert not breaking
    assert len(stages.given["generate"]) == 4


async def test_an_answer_goes_on_from_what_was_delivered_after_the_death_of_the_broker(
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    halfway = asyncio.Event()

    async def stand_still_once(place: int) -> None:
        if place == 9 and not halfway.is_set():
            halfway.set()
            await asyncio.Event().wait()

    stages = Stages(own_broker.url)
    stages.does["generate"] = resumed_answer("Once upon a time", stand_still_once)
    async with stages.running(), client(own_gateway) as http:
        pending = asyncio.create_task(stream(http))
        await halfway.wait()
        own_broker.kill()
        own_broker.start()
        assert text_of(await pending) == "Once upon a time"


async def test_many_queries_survive_the_death_of_the_broker(
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    stages = Stages(own_broker.url)
    stages.does["generate"] = stuck_at_first("Hel", answer_with("Hello"))
    async with stages.running(), client(own_gateway) as http:
        pending = [asyncio.create_task(ask(http)) for _ in range(50)]
        await stages.arrived("generate", 50)
        own_broker.kill()
        own_broker.start()
        assert {(await task).json()["answer"] for task in pending} == {"Hello"}


async def test_without_a_broker_for_long_the_gateway_lives_is_not_ready_and_says_why(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    collections = [{"name": "default"}]
    with running_gateway(own_broker, tmp_path, collections, broker_patience=0.5) as gateway:
        async with client(gateway) as http:
            own_broker.kill()
            await until(lambda: unready(http))
            refused = [await ask(http), await ask(http, stream=True), await http.get("/v1/collections")]
            for response in refused:
                assert response.status_code == 503
                assert response.json()["type"] == "urn:sluice:problem:broker-unavailable"
                assert response.headers["retry-after"] == "1"
            assert (await http.get("/livez")).status_code == 200
            own_broker.start()
            gateway.wait_ready()
            async with Stages(own_broker.url).running():
                assert (await ask(http)).status_code == 200


async def test_a_gateway_that_starts_before_its_broker_waits_for_it(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as broker:
        broker.kill()
        gateway = ServiceProcess("services.gateway", tmp_path, nats_url=broker.url)
        gateway.start()
        try:
            async with client(gateway) as http:
                await until(lambda: alive(http))
                assert (await http.get("/readyz")).status_code == 503
                assert (await ask(http)).json()["type"] == "urn:sluice:problem:broker-unavailable"
                broker.start()
                gateway.wait_ready()
        finally:
            gateway.kill()


async def test_sigterm_lets_every_query_in_flight_finish(own_broker: NatsServer, own_gateway: ServiceProcess) -> None:
    stages, free = Stages(own_broker.url), asyncio.Event()

    async def generate(query: Query, context: Context) -> None:
        await context.delta("Hello ")
        await free.wait()
        await context.delta("world")
        await context.done(usage=Usage(), engine="quoting")

    stages.does["generate"] = generate
    async with stages.running(), client(own_gateway) as http:
        whole = [asyncio.create_task(ask(http)) for _ in range(25)]
        streamed = [asyncio.create_task(stream(http)) for _ in range(25)]
        await stages.arrived("generate", 50)
        own_gateway.signal(signal.SIGTERM)
        await until(lambda: gone(http))
        free.set()
        assert {(await task).json()["answer"] for task in whole} == {"Hello world"}
        assert {text_of(await task) for task in streamed} == {"Hello world"}
        assert await asyncio.to_thread(own_gateway.wait) == 0


async def test_sigterm_ends_what_does_not_finish_within_the_grace_period(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    async def never(_: Query, context: Context) -> None:
        await context.delta("Hello")
        await asyncio.Event().wait()

    stages = Stages(own_broker.url)
    stages.does["generate"] = never
    with ServiceProcess("services.gateway", tmp_path, nats_url=own_broker.url, grace_seconds=2) as gateway:
        async with stages.running(), client(gateway) as http:
            (await http.post("/v1/collections", json={"name": "default"})).raise_for_status()
            whole, streamed = asyncio.create_task(ask(http)), asyncio.create_task(stream(http))
            await stages.arrived("generate", 2)
            gateway.signal(signal.SIGTERM)
            assert (await whole).json()["type"] == "urn:sluice:problem:answer-interrupted"
            assert [event.event for event in await streamed] == ["delta", "error"]
            assert await asyncio.to_thread(gateway.wait) == 0


async def test_while_it_lingers_a_stopping_gateway_is_not_ready_answers_and_closes_connections(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    with ServiceProcess("services.gateway", tmp_path, nats_url=own_broker.url, linger_seconds=60) as gateway:
        async with Stages(own_broker.url).running(), client(gateway) as http:
            created = await http.post("/v1/collections", json={"name": "default"})
            assert "connection" not in created.headers
            gateway.signal(signal.SIGTERM)
            await until(lambda: unready(http))
            answered = await ask(http)
            assert answered.status_code == 200
            assert answered.headers["connection"] == "close"


async def test_a_wrong_pipelines_file_ends_the_start_with_a_message(own_broker: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "pipelines.yaml").write_text("pipelines: {a: []}")
    gateway = ServiceProcess(
        "services.gateway", tmp_path, nats_url=own_broker.url, pipelines=tmp_path / "pipelines.yaml"
    )
    gateway.start()
    assert await asyncio.to_thread(gateway.wait) == 1
    assert "pipelines.yaml is not valid: pipelines > a" in gateway.log
