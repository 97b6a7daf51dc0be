"""What the API says of traces."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Span", "SpanEvent", "Trace"]

Value = str | bool | int | float


class _Wire(BaseModel):
    """Members that a newer server adds are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class SpanEvent(_Wire):
    """Something that happened within a span, at a Unix time."""

    name: str
    at: float = 0.0
    attributes: dict[str, Value] = {}


class Span(_Wire):
    """One service's part. Times are Unix seconds; `ended_at` is None while it lasts, `error` None unless it failed.

    `linked` says that the span belongs to another trace: a batch in which this one took part.
    """

    span_id: str
    parent_id: str | None = None
    trace_id: str = ""
    name: str = ""
    kind: str = "internal"
    service: str = ""
    instance: str = ""
    started_at: float = 0.0
    ended_at: float | None = None
    error: str | None = None
    attributes: dict[str, Value] = {}
    events: tuple[SpanEvent, ...] = ()
    linked: bool = False


class Trace(_Wire):
    """A query's or a job's way through the services, as far as they remember it; spans in the order of their start."""

    id: str = ""
    trace_id: str
    started_at: float = 0.0
    duration_ms: float = 0.0
    spans: tuple[Span, ...] = ()
    omitted: int = 0
