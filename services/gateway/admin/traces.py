"""Traces, collected from what every service still remembers of them."""

from collections.abc import Iterable, Sequence

from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.gateway.admin.discovery import ask_all
from shared.contracts.problems import Problem, ProblemType
from shared.telemetry.messaging import TENANT
from shared.telemetry.span_owners import Ancestry, spans_of
from shared.telemetry.trace_events import TRACE, SpanReport, TraceReport, TraceRequest, TraceSummary

__all__ = ["SpanBody", "TraceBody", "TraceEntry", "TraceList", "collect_trace", "latest_traces"]

LONGEST = 1.0
QUIET = 0.15

MESSAGE = "exception.message"
"""What OpenTelemetry calls the words of an exception."""


class SpanBody(SpanReport):
    """`linked` says that the span belongs to another trace: a batch in which this one took part."""

    service: str
    instance: str
    linked: bool


class TraceBody(BaseModel):
    """Spans in the order in which they began; times are Unix seconds. `omitted` counts spans left out as too many."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="What was asked for.")
    trace_id: str
    started_at: float
    duration_ms: float = Field(description="From the first span's start to the last one's end.")
    spans: list[SpanBody]
    omitted: int


class TraceEntry(BaseModel):
    """A trace in short. `duration_ms` is null while it lasts, `error` null unless a span has failed."""

    model_config = ConfigDict(frozen=True)

    trace_id: str
    id: str = Field(description="The id of the query or the job.")
    name: str = Field(description="The first span's.")
    services: list[str]
    started_at: float
    duration_ms: float | None
    spans: int
    error: str | None


class TraceList(BaseModel):
    model_config = ConfigDict(frozen=True)

    traces: list[TraceEntry]


async def latest_traces(client: Client, most: int, tenant: str, *, words: bool) -> TraceList:
    """The newest traces of a tenant's queries and jobs, as far as the services remember them, the newest first.

    With `words` the reasons of failures are among them, which may name collections, folders and documents.
    """
    found: dict[str, list[tuple[str, TraceSummary]]] = {}
    for report in await _ask(client, TraceRequest(id="", latest=most, tenant=tenant)):
        for summary in report.latest:
            found.setdefault(summary.trace_id, []).append((report.service, summary))
    entries = sorted((_entry(parts, words) for parts in found.values()), key=lambda entry: -entry.started_at)
    return TraceList(traces=entries[:most])


async def collect_trace(client: Client, wanted: str, tenant: str, *, words: bool) -> TraceBody:
    """The trace of an id, as far as a tenant may see it, with the reasons of failures or not. Raises Problem NOT_FOUND.

    An id of a query or job is known to those who saw it; the trace that it means is then wanted of everybody.
    """
    reports = await _ask(client, TraceRequest(id=wanted))
    traces = {trace for report in reports for trace in report.traces if _spans_of(report, trace)}
    if traces - {wanted}:
        for trace in sorted(traces - {wanted}):
            reports += await _ask(client, TraceRequest(id=trace))
    spans = {span.span_id: span for span in _visible(_spans(reports, traces), traces, tenant)}
    if not spans:
        raise Problem(
            ProblemType.NOT_FOUND,
            f"No service remembers a trace, query or job '{wanted}'. They forget after some minutes, after many other "
            "traces, and when they are restarted; and under load only some traces are recorded.",
        )
    shown = list(spans.values()) if words else list(map(_wordless, spans.values()))
    return _body(wanted, shown, max((report.omitted for report in reports), default=0))


async def _ask(client: Client, request: TraceRequest) -> list[TraceReport]:
    reports = []
    for answer in await ask_all(client, TRACE, request.model_dump_json().encode(), longest=LONGEST, quiet=QUIET):
        try:
            reports.append(TraceReport.model_validate_json(answer))
        except ValidationError:
            continue  # a neighbouring version means something else by it
    return reports


def _entry(parts: Sequence[tuple[str, TraceSummary]], words: bool) -> TraceEntry:
    _, first = min(parts, key=lambda part: part[1].started_at)
    ends = [part.ended_at for _, part in parts]
    error = next((part.error for _, part in parts if part.error is not None), None)
    lasts = None in ends
    return TraceEntry(
        trace_id=first.trace_id,
        id=first.conversation,
        name=first.name,
        services=sorted({service for service, _ in parts}),
        started_at=first.started_at,
        duration_ms=None if lasts else round((max(end or 0 for end in ends) - first.started_at) * 1e3, 3),
        spans=sum(part.spans for _, part in parts),
        error=error if words else _kind(error),
    )


def _kind(error: str | None) -> str | None:
    """Of `Problem: There is no collection 'x'.` what comes before the colon."""
    return None if error is None else error.partition(":")[0]


def _wordless(span: SpanBody) -> SpanBody:
    """A span that says that it has failed, and not why."""
    events = tuple(
        event.model_copy(update={"attributes": {k: v for k, v in event.attributes.items() if k != MESSAGE}})
        for event in span.events
    )
    return span.model_copy(update={"error": _kind(span.error), "events": events})


def _spans_of(report: TraceReport, trace: str) -> bool:
    return any(span.trace_id == trace for span in report.spans)


def _spans(reports: Iterable[TraceReport], traces: set[str]) -> list[SpanBody]:
    return [
        SpanBody(
            **span.model_dump(),
            service=report.service,
            instance=report.instance,
            linked=span.trace_id not in traces,
        )
        for report in reports
        for span in report.spans
    ]


def _visible(spans: Sequence[SpanBody], traces: set[str], tenant: str) -> list[SpanBody]:
    """A tenant sees its own spans, and those below them that name no tenant, such as calls of a model."""
    owners = {span.trace_id for span in spans if span.attributes.get(TENANT) == tenant}
    if not owners & traces:
        return []
    return spans_of(tenant, spans, _ancestry)


def _ancestry(span: SpanBody) -> Ancestry:
    named = span.attributes.get(TENANT)
    return Ancestry(span.span_id, span.parent_id, None if named is None else str(named))


def _body(wanted: str, spans: list[SpanBody], omitted: int) -> TraceBody:
    spans.sort(key=lambda span: span.started_at)
    own = [span for span in spans if not span.linked] or spans
    began = min(span.started_at for span in own)
    ended = max(span.ended_at or span.started_at for span in own)
    return TraceBody(
        id=wanted,
        trace_id=own[0].trace_id,
        started_at=began,
        duration_ms=round((ended - began) * 1e3, 3),
        spans=spans,
        omitted=omitted,
    )
