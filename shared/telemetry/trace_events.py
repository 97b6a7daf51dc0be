"""What services exchange about traces: the spans they remember, and that a failed trace is to be exported.

A request on `control.trace` is answered by every process with what it remembers of a trace. A message on
`control.keep` says that a trace that was not sampled has failed: every process exports what it has of it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from pydantic import BaseModel, ConfigDict, Field

from shared.tasks import background
from shared.telemetry.messaging import CONVERSATION, TENANT
from shared.telemetry.span_owners import Ancestry, spans_of
from shared.telemetry.trace_memory import TraceMemory

__all__ = [
    "KEEP",
    "MOST_TRACES",
    "TRACE",
    "SpanReport",
    "TraceReport",
    "TraceRequest",
    "TraceSummary",
    "announcing",
    "keep",
    "report",
]

TRACE: Final = "control.trace"
KEEP: Final = "control.keep"

MOST_SPANS: Final = 500
MOST_BYTES: Final = 600_000
"""Bounds of one process's answer; the broker takes a megabyte."""

MOST_TRACES: Final = 200
"""Summaries in one process's answer."""

MOST_EVENTS: Final = 8
LONGEST_TEXT: Final = 300
MOST_WAITING: Final = 1000
"""Failed traces that wait to be announced; beyond that only this process exports its part."""

Value = str | bool | int | float


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class TraceRequest(_Wire):
    """`id` is that of a trace (32 hex digits), of a query or of a job.

    An empty one asks for summaries: of the `latest` traces of a tenant's queries and jobs.
    """

    id: str
    latest: Annotated[int, Field(ge=0, le=MOST_TRACES)] = 0
    tenant: str = ""


class EventReport(_Wire):
    """Something that happened within a span, at a Unix time."""

    name: str
    at: float
    attributes: dict[str, Value] = {}


class SpanReport(_Wire):
    """A span: times are Unix seconds, `ended_at` None while it lasts. `error` says why it failed, None if it has not.

    A span of another trace, that only links to this one, has that trace's id and the linked span as its parent.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    started_at: float
    ended_at: float | None
    error: str | None
    attributes: dict[str, Value]
    events: tuple[EventReport, ...] = ()


class TraceSummary(_Wire):
    """One process's part of a trace of a query or a job: `conversation` is its id, `name` that of the first span,
    `ended_at` None while a span lasts, `error` that of the first span that failed."""

    trace_id: str
    conversation: str
    name: str
    started_at: float
    ended_at: float | None
    spans: int
    error: str | None


class TraceReport(_Wire):
    """What one process remembers: of the spans at most 500, the longest ones. `traces` are those that the id means."""

    service: str
    instance: str
    traces: tuple[str, ...]
    spans: tuple[SpanReport, ...]
    omitted: int = 0
    latest: tuple[TraceSummary, ...] = ()


def report(memory: TraceMemory | None, request: TraceRequest, *, service: str, instance: str) -> TraceReport:
    """What this process remembers of a trace, or of the traces of a query or a job."""
    if not request.id:
        summaries = _latest(memory, request.latest, request.tenant) if memory else ()
        return TraceReport(service=service, instance=instance, traces=(), spans=(), latest=tuple(summaries))
    numbers = _meant(memory, request.id)
    found = [(span, number) for number in numbers for span in (memory.recall(number) if memory else [])]
    found.sort(key=lambda pair: -_duration(pair[0]))
    spans: list[SpanReport] = []
    size = 0
    for span, number in found[:MOST_SPANS]:
        made = _report(span, number)
        size += len(made.model_dump_json())
        if size > MOST_BYTES:
            break
        spans.append(made)
    return TraceReport(
        service=service,
        instance=instance,
        traces=tuple(format(number, "032x") for number in numbers),
        spans=tuple(spans),
        omitted=len(found) - len(spans),
    )


def keep(memory: TraceMemory | None, request: TraceRequest) -> None:
    """Export a trace that failed in another process."""
    if memory is not None and (number := _number(request.id)) is not None:
        memory.keep(number)


@asynccontextmanager
async def announcing(memory: TraceMemory | None, client: Client) -> AsyncIterator[None]:
    """Announce the traces that fail in this process to all services, for as long as the block runs."""
    if memory is None:
        yield
        return
    failed: deque[int] = deque(maxlen=MOST_WAITING)
    some = asyncio.Event()
    loop = asyncio.get_running_loop()

    def announce(trace_id: int) -> None:
        # Spans may end in any thread.
        failed.append(trace_id)
        loop.call_soon_threadsafe(some.set)

    async def publish() -> None:
        while True:
            await some.wait()
            some.clear()
            while failed:
                request = TraceRequest(id=format(failed.popleft(), "032x"))
                with suppress(NatsError, OSError):
                    await client.publish(KEEP, request.model_dump_json().encode())

    memory.announce = announce
    try:
        async with background(publish()):
            yield
    finally:
        memory.announce = lambda _: None


def _latest(memory: TraceMemory, most: int, tenant: str) -> Iterator[TraceSummary]:
    def theirs(span: ReadableSpan) -> bool:
        attributes = span.attributes or {}
        return attributes.get(TENANT) == tenant and bool(attributes.get(CONVERSATION))

    for spans in memory.latest(most, theirs):
        own = spans_of(tenant, spans, _ancestry)
        first = min(own, key=lambda span: span.start_time or 0)
        ends = [span.end_time for span in own]
        yield TraceSummary(
            trace_id=format(first.context.trace_id, "032x"),
            conversation=next(str((span.attributes or {})[CONVERSATION]) for span in own if theirs(span)),
            name=first.name,
            started_at=(first.start_time or 0) / 1e9,
            ended_at=None if None in ends else max(end or 0 for end in ends) / 1e9,
            spans=len(own),
            error=next((_error(span) for span in own if _has_failed(span)), None),
        )


def _ancestry(span: ReadableSpan) -> Ancestry:
    named = (span.attributes or {}).get(TENANT)
    parent = None if span.parent is None else span.parent.span_id
    return Ancestry(span.context.span_id, parent, None if named is None else str(named))


def _meant(memory: TraceMemory | None, named: str) -> Iterable[int]:
    number = _number(named)
    return sorted((memory.find(CONVERSATION, named) if memory else set()) | ({number} if number is not None else set()))


def _number(text: str) -> int | None:
    try:
        return int(text, 16) if len(text) == 32 else None
    except ValueError:
        return None


def _duration(span: ReadableSpan) -> float:
    if span.end_time is None:
        return float("inf")
    return span.end_time - (span.start_time or 0)


def _report(span: ReadableSpan, of_trace: int) -> SpanReport:
    own = span.context
    parent = span.parent
    if own.trace_id != of_trace:
        parent = next(link.context for link in span.links if link.context.trace_id == of_trace)
    return SpanReport(
        trace_id=format(own.trace_id, "032x"),
        span_id=format(own.span_id, "016x"),
        parent_id=format(parent.span_id, "016x") if parent is not None else None,
        name=span.name,
        kind=span.kind.name.lower(),
        started_at=(span.start_time or 0) / 1e9,
        ended_at=None if span.end_time is None else span.end_time / 1e9,
        error=_error(span) if _has_failed(span) else None,
        attributes=_plain(span.attributes),
        events=tuple(
            EventReport(name=event.name, at=event.timestamp / 1e9, attributes=_plain(event.attributes))
            for event in span.events[:MOST_EVENTS]
        ),
    )


def _has_failed(span: ReadableSpan) -> bool:
    return span.status.status_code is StatusCode.ERROR


def _error(span: ReadableSpan) -> str:
    return (span.status.description or "error")[:LONGEST_TEXT]


def _plain(attributes: object) -> dict[str, Value]:
    """Attributes as JSON has them; stack traces are in the logs."""
    items = dict(attributes).items() if attributes else ()  # type: ignore[call-overload]
    return {name: _value(value) for name, value in items if name != "exception.stacktrace"}


def _value(value: object) -> Value:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple | list):
        value = ", ".join(str(one) for one in value)
    return str(value)[:LONGEST_TEXT]
