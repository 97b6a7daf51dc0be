"""Promise 8: one trace follows the query over the hops."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from shared.contracts.envelope import Query
from shared.runtime.batching import Batcher
from shared.runtime.stage import Context
from shared.telemetry.tracing import tracer
from tests.harness.stage_harness import StageHarness

pytestmark = pytest.mark.anyio


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans of this process, as they end."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


async def shout(query: Query, context: Context) -> Query:
    return query.model_copy(update={"question": query.question.upper()})


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def ids(span: ReadableSpan | trace.Span | trace.SpanContext | None) -> tuple[int, int]:
    assert span is not None
    context = span if isinstance(span, trace.SpanContext) else span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


async def test_each_hop_is_a_producer_span_and_a_consumer_span_below_it_in_one_trace(
    harness: StageHarness, spans: InMemorySpanExporter
) -> None:
    async with harness.working(shout, "one"), harness.working(shout, "two"):
        with tracer.start_as_current_span("request") as request:
            query = harness.query("one", "two")
            await harness.ask(query)
        await harness.empty("one")
        await harness.empty("two")
    chain: Sequence[str] = ["send query.one", "process query.one", "send query.two", "process query.two"]
    above = (request.get_span_context().trace_id, request.get_span_context().span_id)
    for name in chain:
        (span,) = named(spans, name)
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == above
        assert span.kind is (SpanKind.PRODUCER if name.startswith("send") else SpanKind.CONSUMER)
        assert span.attributes is not None
        assert span.attributes["messaging.system"] == "nats"
        assert span.attributes["messaging.operation.type"] == name.partition(" ")[0]
        assert span.attributes["messaging.message.id"] == f"{query.id}:{chain.index(name) // 2}.{name[-3:]}:1"
        assert span.attributes["messaging.message.conversation_id"] == query.id
        assert span.attributes["messaging.destination.template"] == f"query.{name[-3:]}"
        assert span.attributes["messaging.destination.name"] == f"query.{name[-3:]}.default.interactive.default"
        above = ids(span)


async def test_work_that_fails_marks_its_span(harness: StageHarness, spans: InMemorySpanExporter) -> None:
    failures = [RuntimeError("once")]

    async def failing(query: Query, context: Context) -> Query:
        if failures:
            raise failures.pop()
        return query

    async with harness.working(failing, "flaky"):
        await harness.ask(harness.query("flaky"))
        await harness.empty("flaky")
    first, second = named(spans, "process query.flaky")
    assert first.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in first.events] == ["exception"]
    assert second.status.status_code is not trace.StatusCode.ERROR


async def double(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


async def test_a_batch_of_one_is_a_part_of_its_trace(harness: StageHarness, spans: InMemorySpanExporter) -> None:
    batcher = Batcher[int, int](double, name="alone", max_items=8, max_cost=8, cost=lambda _: 1)

    async def batched(query: Query, context: Context) -> Query:
        return query.model_copy(update={"question": str(await batcher.submit(21))})

    async with batcher.running(), harness.working(batched, "batched"):
        await harness.ask(harness.query("batched"))
        await harness.empty("batched")
    (work,) = named(spans, "process query.batched")
    (batch,) = named(spans, "batch alone")
    assert ids(batch.parent) == ids(work)
    assert not batch.links
    assert batch.attributes == {"sluice.batch.items": 1}


@pytest.mark.parametrize("one_trace", [True, False])
async def test_a_batch_links_to_each_trace_that_it_was_made_of(one_trace: bool, spans: InMemorySpanExporter) -> None:
    batcher = Batcher[int, int](double, name=f"of two {one_trace}", max_items=8, max_cost=8, cost=lambda _: 1)
    begun: asyncio.Queue[trace.Span] = asyncio.Queue()

    async def submit(name: str) -> None:
        with tracer.start_as_current_span(name) as span:
            begun.put_nowait(span)
            await batcher.submit(21)

    with tracer.start_as_current_span("job") if one_trace else nullcontext():
        submitted = [asyncio.create_task(submit(name)) for name in ("first", "second")]
        first, second = [ids(await begun.get()) for _ in submitted]
        async with batcher.running():
            await asyncio.gather(*submitted)
    (batch,) = named(spans, f"batch of two {one_trace}")
    if one_trace:
        assert ids(batch.parent) == first
        assert linked(batch) == [second]
    else:
        assert batch.parent is None
        assert linked(batch) == [first, second]


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]
