"""Which traces are sampled: decided once, where a trace begins, and followed by every service that it passes."""

import time
from collections.abc import Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

__all__ = ["Rate", "Ratio", "TraceSampler"]

LOWER_BITS: Final = 2**64 - 1


class Ratio:
    """A share of all traces, chosen by their ids: the choice of `TraceIdRatioBased`."""

    def __init__(self, share: float) -> None:
        self._bound = round(share * 2**64)

    def __call__(self, trace_id: int) -> bool:
        return trace_id & LOWER_BITS < self._bound


class Rate:
    """So many traces a second at most, in bursts of a second."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = per_second
        self._at = time.monotonic()

    def __call__(self, _trace_id: int) -> bool:
        now = time.monotonic()
        self._left = min(max(1.0, self._per_second), self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._per_second <= 0 or self._left < 1:
            return False
        self._left -= 1
        return True


class TraceSampler(Sampler):
    """A span follows its parent; one without a parent follows what it links to; else `begins` decides by the trace id.

    Spans of traces that are not sampled are recorded all the same where `record_all` says so.
    """

    def __init__(self, begins: Ratio | Rate, *, record_all: bool) -> None:
        self._begins = begins
        self._otherwise = Decision.RECORD_ONLY if record_all else Decision.DROP

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,  # noqa: ARG002  (OpenTelemetry's interface)
        kind: SpanKind | None = None,  # noqa: ARG002
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        if parent.is_valid:
            sampled = parent.trace_flags.sampled
        elif links:
            sampled = any(link.context.trace_flags.sampled for link in links)
        else:
            sampled = self._begins(trace_id)
        decision = Decision.RECORD_AND_SAMPLE if sampled else self._otherwise
        return SamplingResult(decision, None if decision is Decision.DROP else attributes, parent.trace_state)

    def get_description(self) -> str:
        return "SluiceTraceSampler"
