"""One trace, collected from what every service still remembers of it."""

from collections.abc import Iterable, Sequence

from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.gateway.admin.discovery import ask_all
from shared.contracts.problems import Problem, ProblemType
from shared.telemetry.messaging import TENANT
from shared.telemetry.trace_events import TRACE, SpanReport, TraceReport, TraceRequest

__all__ = ["SpanBody", "TraceBody", "collect_trace"]

LONGEST = 1.0
QUIET = 0.15


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


async def collect_trace(client: Client, wanted: str, tenant: str) -> TraceBody:
    """The trace of an id, as far as a tenant may see it. Raises Problem NOT_FOUND.

    An id of a query or job is known to those who saw it; the trace that it means is then wanted of everybody.
    """
    reports = await _ask(client, wanted)
    traces = {trace for report in reports for trace in report.traces if _spans_of(report, trace)}
    if traces - {wanted}:
        for trace in sorted(traces - {wanted}):
            reports += await _ask(client, trace)
    spans = {span.span_id: span for span in _visible(_spans(reports, traces), traces, tenant)}
    if not spans:
        raise Problem(
            ProblemType.NOT_FOUND,
            f"No service remembers a trace, query or job '{wanted}'. They forget after some minutes, after many other "
            "traces, and when they are restarted; and under load only some traces are recorded.",
        )
    return _body(wanted, list(spans.values()), max((report.omitted for report in reports), default=0))


async def _ask(client: Client, wanted: str) -> list[TraceReport]:
    request = TraceRequest(id=wanted).model_dump_json().encode()
    reports = []
    for answer in await ask_all(client, TRACE, request, longest=LONGEST, quiet=QUIET):
        try:
            reports.append(TraceReport.model_validate_json(answer))
        except ValidationError:
            continue  # a neighbouring version means something else by it
    return reports


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
    """A tenant sees its own spans, and in a trace with such a span those of no tenant too: calls of a model."""
    owners = {span.trace_id for span in spans if span.attributes.get(TENANT) == tenant}
    if not owners & traces:
        return []
    return [span for span in spans if span.attributes.get(TENANT, tenant) == tenant]


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
