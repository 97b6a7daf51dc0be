"""Questions over HTTP, answered by stages over the broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import nats
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from shared.contracts.documents import Document
from shared.contracts.envelope import Query
from shared.contracts.events import Usage
from shared.contracts.generation import ContextReport
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until
from tests.harness.stages import Stages, answer_with

pytestmark = pytest.mark.anyio

PIPELINES = """
pipelines:
  search: [embed, {stage: retrieve, params: {mode: vector}}]
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def gateway_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    pipelines = tmp_path_factory.mktemp("gateway") / "pipelines.yaml"
    pipelines.write_text(PIPELINES)
    return {"pipelines": pipelines}


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}, {"name": "searched", "pipeline": "search"}]


@pytest.fixture
async def http(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


async def ask(http: httpx.AsyncClient, **request: Any) -> httpx.Response:
    return await http.post("/v1/query", json={"question": "What?"} | request)


async def stream(http: httpx.AsyncClient, **request: Any) -> AsyncIterator[ServerSentEvent]:
    body = {"question": "What?", "stream": True} | request
    async with aconnect_sse(http, "POST", "/v1/query", json=body) as source:
        async for event in source.aiter_sse():
            yield event


async def in_flight(http: httpx.AsyncClient) -> bool:
    return "sluice_gateway_queries_in_flight 1.0" in (await http.get("/metrics")).text


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code
    return str(response.json()["type"]).removeprefix("urn:sluice:problem:")


async def test_an_answer_has_its_text_sources_usage_timings_and_trace(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    async with Stages(broker.url).running():
        parent = f"00-{TRACE}-b7ad6b7169203331-01"
        response = await http.post("/v1/query", json={"question": " What? "}, headers={"traceparent": parent})
    answer = response.json()
    assert response.status_code == 200
    assert answer["answer"] == "Hello world"
    assert [(s["index"], s["document"]) for s in answer["sources"]] == [(1, "doc1.txt"), (2, "doc2.txt")]
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 0}
    assert (answer["engine"], answer["finish"]) == ("quoting", "stop")
    assert answer["trace_id"] == response.headers["x-trace-id"] == TRACE
    assert [stage["stage"] for stage in answer["timings"]["stages"]] == ["embed", "retrieve", "generate"]
    assert 0 < answer["timings"]["first_delta_ms"] <= answer["timings"]["total_ms"]


async def test_a_stream_sends_sources_then_deltas_then_the_end(broker: NatsServer, http: httpx.AsyncClient) -> None:
    async with Stages(broker.url).running():
        events = [(event.event, event.json()) async for event in stream(http)]
        asked = {"question": "What?"}
        async with http.stream("POST", "/v1/query", json=asked, headers={"accept": "text/event-stream"}) as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert response.headers["cache-control"] == "no-store, no-transform"
            assert response.headers["x-accel-buffering"] == "no"
            await response.aread()
    assert [name for name, _ in events] == ["sources", "delta", "delta", "done"]
    assert [data["text"] for name, data in events if name == "delta"] == ["Hello ", "world"]
    assert events[0][1]["id"] == events[-1][1]["id"]
    assert events[-1][1]["engine"] == "quoting"


async def test_a_delta_is_sent_before_the_next_one_is_made(broker: NatsServer, http: httpx.AsyncClient) -> None:
    stages, seen = Stages(broker.url), asyncio.Event()

    async def generate(query: Query, context: Context) -> None:
        await context.delta("one")
        await seen.wait()
        await answer_with()(query, context)

    stages.does["generate"] = generate
    async with stages.running():
        events = stream(http)
        assert (await anext(events)).json() == {"text": "one"}
        seen.set()
        await events.aclose()


async def test_each_stage_is_given_what_the_request_and_the_collection_say(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    stages = Stages(broker.url)
    async with stages.running():
        await ask(http, question="Wann?", top_k=3, filter={"year": {"$gte": 2020}}, timeout=20)
    (query,) = stages.given["retrieve"]
    assert query.stop.params == {"top_k": 3, "filter": {"year": {"$gte": 2020}}}
    assert query.question == "Wann?"
    assert query.collection.startswith("default-")
    assert query.deadline - query.asked_at == pytest.approx(20)
    assert stages.given["generate"][0].embedding is not None


async def test_a_follow_up_is_made_to_stand_alone_and_brings_its_conversation_and_wishes(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    stages = Stages(broker.url)
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}]
    async with stages.running(("condense", "embed", "retrieve", "generate")):
        await ask(http, question="And when?", messages=turns, generate={"max_tokens": 9, "stop": "."})
    (query,) = stages.given["condense"]
    assert [stop.stage for stop in query.slip] == ["condense", "embed", "retrieve", "generate"]
    assert [(turn.role, turn.content) for turn in query.messages] == [("user", "Who?"), ("assistant", "Ann.")]
    assert stages.given["generate"][0].stop.params == {"max_tokens": 9, "stop": ["."]}


async def test_an_answer_says_what_it_cites_and_what_was_left_out(broker: NatsServer, http: httpx.AsyncClient) -> None:
    async def generate(query: Query, context: Context) -> None:
        report = ContextReport(window=64, prompt_tokens=60, dropped=(2,))
        await context.sources(query.passages)
        await context.delta("Yes [1].")
        await context.done(usage=Usage(), engine="e", model="m", finish="length", cited=(1,), context=report)

    stages = Stages(broker.url)
    stages.does["generate"] = generate
    async with stages.running():
        whole = (await ask(http)).json()
        *_, done = [event.json() async for event in stream(http)]
    for said in (whole, done):
        assert (said["cited"], said["model"], said["finish"]) == ([1], "m", "length")
        assert said["context"] == {
            "window": 64,
            "prompt_tokens": 60,
            "dropped": [2],
            "shortened": [],
            "joined": [],
            "dropped_turns": 0,
        }


async def test_a_pipeline_without_a_generator_answers_with_sources_alone(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    stages = Stages(broker.url)
    async with stages.running(("embed", "retrieve")):
        named = await ask(http, pipeline="search")
        by_collection = await ask(http, collection="searched", top_k=2)
        events = [event.event async for event in stream(http, pipeline="search")]
    for response in (named, by_collection):
        assert response.json()["answer"] == ""
        assert len(response.json()["sources"]) == 2
    assert response.json()["timings"]["first_delta_ms"] is None
    assert stages.given["retrieve"][1].stop.params == {"mode": "vector", "top_k": 2, "filter": None}
    assert events == ["sources", "done"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("request_body", "problem"),
    [
        ({"question": "  \n"}, "invalid-question"),
        ({"question": "x" * 8001}, "invalid-question"),
        ({"question": "a\x00b"}, "invalid-question"),
        ({"question": "\x0c\x1f"}, "invalid-question"),
        ({"question": "a\x80b"}, "invalid-question"),
        ({"question": "\ufffd\ufffd\ufffdPK\ufffd"}, "invalid-question"),
        ({"question": 5}, "invalid-request"),
        ({"top_k": 0}, "invalid-request"),
        ({"top_k": "5"}, "invalid-request"),
        ({"tokp_k": 5}, "invalid-request"),
        ({"timeout": 0.05}, "invalid-request"),
        ({"timeout": 301}, "invalid-request"),
        ({"filter": {"year": {"$near": 1}}}, "invalid-filter"),
        ({"filter": []}, "invalid-request"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid-request"),
        ({"generate": {"temperature": 3}}, "invalid-request"),
        ({"generate": {"tools": []}}, "invalid-request"),
        ({"collection": "nope"}, "collection-not-found"),
        ({"collection": "../etc"}, "collection-not-found"),
        ({"pipeline": "nope"}, "pipeline-not-found"),
        ({"question": "x", "filter": {"a": "x" * 600_000}}, "too-large"),
    ],
)
async def test_a_request_that_cannot_be_right_is_refused_at_once(
    http: httpx.AsyncClient, request_body: dict[str, Any], problem: str, streamed: bool
) -> None:
    assert code(await ask(http, stream=streamed, **request_body)) == problem


async def test_a_refusal_names_each_wrong_member(http: httpx.AsyncClient) -> None:
    errors = (await ask(http, top_k=0, temperature=1)).json()["errors"]
    assert [error["path"] for error in errors] == ["top_k", "temperature"]
    errors = (await ask(http, generate={"top_p": 2})).json()["errors"]
    assert [error["path"] for error in errors] == ["generate.top_p"]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"question": "\xff"}', "application/json"),
        (b'{"question": "What?"}', "text/plain"),
        (b"", ""),
    ],
)
async def test_a_body_that_is_no_json_is_refused(http: httpx.AsyncClient, content: bytes, content_type: str) -> None:
    response = await http.post("/v1/query", content=content, headers={"content-type": content_type})
    assert (response.status_code, code(response)) == (422, "invalid-request")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_problem_of_a_stage_before_the_answer_begins_is_the_response(
    broker: NatsServer, http: httpx.AsyncClient, streamed: bool
) -> None:
    async def empty(_: Query, __: Context) -> Query:
        raise Problem(ProblemType.COLLECTION_EMPTY, "Nothing there.")

    stages = Stages(broker.url)
    stages.does["retrieve"] = empty
    async with stages.running():
        response = await ask(http, stream=streamed)
    assert (response.status_code, code(response)) == (409, "collection-empty")
    assert (response.json()["detail"], response.json()["stage"]) == ("Nothing there.", "retrieve")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_collection_with_documents_on_record_whose_index_is_gone_is_not_called_empty(
    broker: NatsServer, http: httpx.AsyncClient, streamed: bool
) -> None:
    async def empty(_: Query, __: Context) -> Query:
        raise Problem(ProblemType.COLLECTION_EMPTY, "Nothing there.")

    (await http.post("/v1/collections", json={"name": "lost"})).raise_for_status()
    client = await nats.connect(broker.url)
    collection = await Collections(client.jetstream()).get("default", "lost")
    record = Document(
        id="d", name="d.txt", sha256="", bytes=1, chunks=1, media_type="text/plain", indexed_at=0.0, revision=1, job="j"
    )
    await Documents(client.jetstream()).put(collection.table, record, owner=collection.owner)
    await client.close()
    stages = Stages(broker.url)
    stages.does["retrieve"] = empty
    async with stages.running():
        response = await ask(http, collection="lost", stream=streamed)
    assert (response.status_code, code(response)) == (409, "index-damaged")


async def test_a_problem_in_the_middle_of_a_stream_is_its_last_event(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    async def generate(_: Query, context: Context) -> None:
        await context.delta("Hello")
        raise Problem(ProblemType.ENGINE_FAILED, "The engine is gone.")

    stages = Stages(broker.url)
    stages.does["generate"] = generate
    async with stages.running():
        events = [event async for event in stream(http)]
    assert [event.event for event in events] == ["delta", "error"]
    assert events[-1].json()["type"] == "urn:sluice:problem:engine-failed"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("stage", ["retrieve", "generate"])
async def test_a_client_that_leaves_stops_the_work(
    broker: NatsServer, http: httpx.AsyncClient, stage: str, streamed: bool
) -> None:
    stages, stopped = Stages(broker.url), asyncio.Event()

    async def work(_: Query, __: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    stages.does[stage] = work
    async with stages.running():
        pending = asyncio.create_task(ask(http, stream=streamed))
        await stages.arrived(stage)
        pending.cancel()
        async with asyncio.timeout(10):
            await stopped.wait()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_is_counted_as_such_and_is_no_error(
    gateway: ServiceProcess, http: httpx.AsyncClient, streamed: bool
) -> None:
    async def left() -> float:
        name = 'sluice_gateway_requests_total{route="POST /v1/query",status="499"} '
        counts = [line for line in (await http.get("/metrics")).text.splitlines() if line.startswith(name)]
        return float(counts[0].rpartition(" ")[2]) if counts else 0.0

    async def one_more() -> bool:
        return await left() == before + 1

    before = await left()
    pending = asyncio.create_task(ask(http, stream=streamed))
    await until(lambda: in_flight(http))
    pending.cancel()
    await until(one_more)
    assert "Traceback" not in gateway.log


async def test_a_client_that_leaves_in_the_middle_of_a_stream_stops_the_work(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    stages, stopped = Stages(broker.url), asyncio.Event()

    async def generate(_: Query, context: Context) -> None:
        await context.delta("Hello")
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    stages.does["generate"] = generate
    async with stages.running():
        events = stream(http)
        await anext(events)
        await events.aclose()
        async with asyncio.timeout(10):
            await stopped.wait()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stage_without_a_worker_is_503_and_named(
    broker: NatsServer, http: httpx.AsyncClient, streamed: bool
) -> None:
    async with Stages(broker.url).running(("embed",)):
        response = await ask(http, stream=streamed, timeout=0.5)
    assert (response.status_code, code(response)) == (503, "stage-unavailable")
    assert response.json()["stage"] == "retrieve"
    assert "No worker of stage 'retrieve' is running" in response.json()["detail"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_deadline_that_passes_is_504_and_names_the_stage_in_work(
    broker: NatsServer, http: httpx.AsyncClient, streamed: bool
) -> None:
    async def never(_: Query, __: Context) -> None:
        await asyncio.Event().wait()

    stages = Stages(broker.url)
    stages.does["generate"] = never
    async with stages.running():
        response = await ask(http, stream=streamed, timeout=0.5)
    assert (response.status_code, code(response)) == (504, "deadline-exceeded")
    assert response.json()["stage"] == "generate"


async def test_a_redelivered_answer_reaches_a_stream_once(broker: NatsServer, http: httpx.AsyncClient) -> None:
    tries = 0

    async def generate(query: Query, context: Context) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await context.sources(query.passages)
            await context.delta("Hello w")
            raise RuntimeError("this worker fails")
        await answer_with("He", "llo wor", "ld")(query, context)

    stages = Stages(broker.url)
    stages.does["generate"] = generate
    async with stages.running():
        events = [event async for event in stream(http)]
    assert [event.event for event in events] == ["sources", "delta", "delta", "delta", "done"]
    assert "".join(event.json()["text"] for event in events if event.event == "delta") == "Hello world"


async def test_a_stream_tells_its_client_that_it_lives_before_the_first_event(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    stages, begun = Stages(broker.url), asyncio.Event()

    async def generate(query: Query, context: Context) -> None:
        await begun.wait()
        raise Problem(ProblemType.ENGINE_FAILED, "The engine is gone.")

    stages.does["generate"] = generate
    async with (
        stages.running(),
        http.stream("POST", "/v1/query", json={"question": "What?", "stream": True}) as response,
    ):
        assert response.status_code == 200
        begun.set()
        lines = [line async for line in response.aiter_lines()]
    assert lines[0] == ": ping"
    assert "event: error" in lines
    assert json.loads(lines[lines.index("event: error") + 1].removeprefix("data: "))["status"] == 502
