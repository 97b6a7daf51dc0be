"""What a real OTLP receiver gets: one trace for a query or a job, whole, whatever happens on the way."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from shared.contracts.jobs import JobState
from sluice import Client, SluiceError
from sluice.api.traces import Trace
from sluice.cli.trace import trace
from tests.harness.broker import NatsServer
from tests.harness.otlp import Received, Receiver, receiving
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import listening, until

pytestmark = pytest.mark.anyio

HOPS = [
    ("POST /v1/query", "SERVER"),
    ("send query.embed", "PRODUCER"),
    ("process query.embed", "CONSUMER"),
    ("send query.retrieve", "PRODUCER"),
    ("process query.retrieve", "CONSUMER"),
    ("send query.generate", "PRODUCER"),
    ("process query.generate", "CONSUMER"),
]


class Place:
    """A gateway and stages that export to a receiver."""

    def __init__(self, broker: NatsServer, folder: Path, receiver: Receiver, **settings: Any) -> None:
        self.receiver = receiver
        self.folder = folder
        self._settings = {
            "nats_url": broker.url,
            "otlp_endpoint": receiver.url,
            "otlp_headers": "x-token=secret",
            "ack_wait": 1.0,
            "marker": folder / "marker",
            **settings,
        }
        self.gateway = self.process("services.gateway")
        self.worker = self.process("tests.harness.programs.pipeline_stages")
        self.http = httpx.AsyncClient(trust_env=False, timeout=60)

    def process(self, module: str, **settings: Any) -> ServiceProcess:
        return ServiceProcess(module, self.folder, **self._settings | settings)

    async def ask(self, question: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.http.post("/v1/query", json={"question": question}, headers=headers)


@asynccontextmanager
async def opened(broker: NatsServer, folder: Path, receiver: Receiver, **settings: Any) -> AsyncIterator[Place]:
    place = Place(broker, folder, receiver, **settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(place.gateway)
        stack.enter_context(place.worker)
        place.http.base_url = httpx.URL(place.gateway.url)
        await stack.enter_async_context(place.http)
        assert (await place.http.post("/v1/collections", json={"name": "default"})).status_code == 201
        yield place


@pytest.fixture(scope="module")
async def place(
    broker: NatsServer, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[Place]:
    with pytest.MonkeyPatch.context() as environment, receiving() as receiver:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        async with opened(broker, tmp_path_factory.mktemp("place"), receiver) as place:
            yield place


def one(spans: list[Received], name: str) -> Received:
    (span,) = [span for span in spans if span.name == name]
    return span


async def whole(receiver: Receiver, response: httpx.Response, *more: str) -> list[Received]:
    names = [*(name for name, _ in HOPS), "batch embed", "chat", *more]
    return await asyncio.to_thread(receiver.named, response.headers["x-trace-id"], *names)


async def test_a_query_is_one_trace_from_the_request_to_the_last_token(place: Place) -> None:
    answer = await place.ask("How long is the warranty?")
    trace = answer.headers["x-trace-id"]
    assert answer.json()["trace_id"] == trace
    spans = await whole(place.receiver, answer)
    above = ""
    for name, kind in HOPS:
        span = one(spans, name)
        assert (span.kind, span.parent, span.failed) == (kind, above, False), name
        if kind != "SERVER":
            assert span.attributes["messaging.message.conversation_id"] == answer.json()["id"]
        above = span.id
    assert one(spans, "batch embed").parent == one(spans, "process query.embed").id
    written = one(spans, "chat")
    assert written.parent == one(spans, "process query.generate").id
    usage = answer.json()["usage"]
    assert written.attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"] > 0
    assert written.attributes["gen_ai.operation.name"] == "chat"
    assert {span.service for span in spans} == {"gateway", "answering"}
    assert place.receiver.headers[0]["x-token"] == "secret"


async def test_a_trace_begun_by_the_client_goes_on_through_the_services(place: Place) -> None:
    named, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = await place.ask("How long is the warranty?", {"traceparent": f"00-{named}-{parent}-01"})
    spans = await whole(place.receiver, answer)
    assert answer.headers["x-trace-id"] == named
    assert one(spans, "POST /v1/query").parent == parent


async def test_work_that_failed_at_first_has_a_span_for_each_delivery(place: Place) -> None:
    answer = await place.ask("flaky")
    spans = await whole(place.receiver, answer)
    first, second = sorted(
        (span for span in spans if span.name == "process query.retrieve"),
        key=lambda span: str(span.attributes["sluice.delivery"]),
    )
    assert first.parent == second.parent == one(spans, "send query.retrieve").id
    assert [span.attributes["sluice.delivery"] for span in (first, second)] == [1, 2]
    assert (first.failed, first.attributes["error.type"]) == (True, "RuntimeError")
    assert not second.failed
    assert one(spans, "send query.generate").parent == second.id


async def test_the_work_of_a_killed_worker_goes_on_in_the_same_trace(place: Place) -> None:
    pending = asyncio.create_task(place.ask("die"))
    await until(lambda: asyncio.to_thread((place.folder / "marker").exists), "the death of the worker")
    place.worker.wait()
    place.worker.start()
    answer = await pending
    assert answer.status_code == 200, answer.text
    spans = await asyncio.to_thread(
        place.receiver.named, answer.headers["x-trace-id"], "process query.retrieve", "send query.generate", "chat"
    )
    (again,) = [span for span in spans if span.name == "process query.retrieve"]
    assert again.attributes["sluice.delivery"] == 2
    assert one(spans, "send query.generate").parent == again.id


async def test_a_batch_of_several_queries_links_to_each_of_them(broker: NatsServer, place: Place) -> None:
    client = await nats.connect(broker.url)
    async with listening(client) as recorder, asyncio.TaskGroup() as tasks:
        held = tasks.create_task(place.ask("hold"))
        _, holding = await recorder.next("started")
        together = [tasks.create_task(place.ask("wait")) for _ in range(2)]
        for _ in together:
            await recorder.next("started")
        await client.publish(f"test.go.{holding}", b"")
    await client.close()
    await whole(place.receiver, held.result())
    traces = {task.result().headers["x-trace-id"] for task in together}
    work = {(t, one(place.receiver.named(t, "process query.embed"), "process query.embed").id) for t in traces}
    spans = await asyncio.to_thread(place.receiver.wait, lambda spans: any(len(span.links) == 2 for span in spans))
    (batch,) = [span for span in spans if len(span.links) == 2]
    assert (batch.name, batch.parent) == ("batch embed", "")
    assert set(batch.links) == work
    assert batch.attributes["sluice.batch.items"] == 2
    assert batch.trace not in traces


async def test_of_unsampled_traces_only_those_that_failed_arrive_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(NatsServer(tmp_path / "nats"))
        receiver = stack.enter_context(receiving())
        place = await stack.enter_async_context(opened(broker, tmp_path, receiver, trace_ratio=0.0, max_deliver=1))
        good = await place.ask("How long is the warranty?")
        bad = await place.ask("fail")
        assert (good.status_code, bad.status_code) == (200, 500)
        hops = [name for name, _ in HOPS[:5]]
        spans = await asyncio.to_thread(receiver.named, bad.headers["x-trace-id"], *hops)
        assert [one(spans, name).parent for name in hops[1:]] == [one(spans, name).id for name in hops[:-1]]
        assert one(spans, "process query.retrieve").failed
        assert one(spans, "POST /v1/query").failed
        again = await place.ask("fail")
        await asyncio.to_thread(receiver.named, again.headers["x-trace-id"], *hops)
        assert not receiver.of(good.headers["x-trace-id"])


async def test_a_job_is_one_trace_with_all_its_steps_though_the_scheduler_is_killed(place: Place) -> None:
    gate = place.folder / "gate"
    os.mkfifo(gate)

    def shell(script: str, **members: Any) -> dict[str, Any]:
        return {"job": {"kind": "command", "command": ["sh", "-c"], "args": [script]}, **members}

    began = place.folder / "began"
    steps = {
        "first": shell("true"),
        "waits": shell(f"echo >> {began}; read line < {gate}", needs=["first"]),
        "last": shell("true", needs=["waits"]),
    }
    spec = {"kind": "pipeline", "name": "test", "steps": steps}

    def scheduler() -> ServiceProcess:
        return place.process("services.scheduler", reader_workers=1, commands="process")

    with scheduler():  # it is killed at the end of the block
        submitted = await place.http.post("/v1/jobs", json={"spec": spec})
        job = submitted.json()["job"]["id"]
        await until(lambda: asyncio.to_thread(began.exists), "the step at work")
        # What has ended by now has been exported; what runs dies with the process.
        trace = submitted.headers["x-trace-id"]
        await asyncio.to_thread(place.receiver.named, trace, "send job.pipeline", "process job.command")
    began.unlink()
    with scheduler():
        await until(lambda: asyncio.to_thread(began.exists), "the step at work again")
        with gate.open("w") as writing:
            writing.write("done\n")

        async def ended() -> bool:
            return (await place.http.get(f"/v1/jobs/{job}")).json()["state"] == JobState.SUCCEEDED

        await until(ended, "the pipeline at its end")
        await asyncio.to_thread(place.receiver.named, trace, "process job.pipeline")
    spans = place.receiver.of(trace)
    submission = one(spans, "send job.pipeline")
    assert submission.parent == one(spans, "POST /v1/jobs").id
    pipeline = one(spans, "process job.pipeline")  # that of the first life died with its process
    assert (pipeline.parent, pipeline.attributes["sluice.delivery"]) == (submission.id, 2)
    sent = {_job(span): span for span in spans if span.name == "send job.command"}
    done = [span for span in spans if span.name == "process job.command"]
    assert {_job(span) for span in done} == {f"{job}-{step}" for step in steps}
    for span in done:
        assert span.parent == sent[_job(span)].id
    assert sent[f"{job}-last"].parent == pipeline.id


async def test_the_command_line_draws_a_trace_without_any_backend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(NatsServer(tmp_path / "nats"))
        receiver = stack.enter_context(receiving())
        place = await stack.enter_async_context(opened(broker, tmp_path, receiver, otlp_endpoint="", max_deliver=1))
        good, bad = await place.ask("How long is the warranty?"), await place.ask("fail")
        with Client(place.gateway.url) as client:

            def whole() -> Trace | None:
                found = client.trace(good.json()["id"])
                return found if all(span.ended_at for span in found.spans) else None

            found = await until(lambda: asyncio.to_thread(whole), "the end of all spans")
            for name in ("no-such-query", "f" * 32):
                with pytest.raises(SluiceError, match="remembers"):
                    await asyncio.to_thread(client.trace, name)
        assert found.trace_id == good.headers["x-trace-id"]
        names = [span.name for span in found.spans]
        assert [name for name, _ in HOPS] == [name for name in names if name in dict(HOPS)]
        await asyncio.to_thread(trace, bad.headers["x-trace-id"], url=place.gateway.url)
        lines = capsys.readouterr().out.splitlines()
        failed = next(line.split("\t") for line in lines if "process query.retrieve" in line)
        assert failed[0] == "answering"
        assert "✗ RuntimeError" in failed[-1]
        metrics = await place.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert f'# {{trace_id="{good.headers["x-trace-id"]}"}}' in metrics.text
        assert metrics.text.endswith("# EOF\n")
        assert "trace_id" not in (await place.http.get("/metrics")).text
        assert not receiver.spans


def _job(span: Received) -> str:
    return str(span.attributes["messaging.message.conversation_id"])
