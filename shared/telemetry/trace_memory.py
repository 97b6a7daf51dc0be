"""The spans that a process still remembers: for `sluice trace`, and for errors in traces that were not sampled.

Every recorded span is kept until newer ones take its place or its time is up. Spans of sampled traces are exported as
they end. The first failed span of another trace makes all services export what they remember of that trace, and what
ends of it from then on: `announce` informs the others.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import chain
from threading import RLock
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags

__all__ = ["TraceMemory"]

MOST_OPEN: Final = 10_000
MOST_KEPT: Final = 10_000
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class TraceMemory(SpanProcessor):
    """Keeps the last `spans` spans for up to `seconds`; `export` gets those that are to leave the process."""

    def __init__(self, *, spans: int, seconds: float, export: SpanProcessor | None = None) -> None:
        self._most = spans
        self._seconds = seconds
        self._export = export
        self._ended: deque[ReadableSpan] = deque()
        self._traces: dict[int, list[ReadableSpan]] = {}
        self._open: dict[int, Span] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._lock = RLock()
        self.announce: Callable[[int], None] = _nobody

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  (OpenTelemetry's)
        with self._lock:
            self._open[span.context.span_id] = span
            if len(self._open) > MOST_OPEN:
                del self._open[next(iter(self._open))]

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            self._open.pop(span.context.span_id, None)
            self._remember(span)
            if self._export is None:
                return
            if span.context.trace_flags.sampled:
                self._export.on_end(span)
            elif any(number in self._kept for number in _traces_of(span)):
                self._export.on_end(_sampled(span))
            elif span.status.status_code is StatusCode.ERROR:
                self.keep(span.context.trace_id)
                self.announce(span.context.trace_id)

    def keep(self, trace_id: int) -> None:
        """Export what is remembered of a trace that was not sampled, and what follows; once."""
        with self._lock:
            if self._export is None or trace_id in self._kept:
                return
            self._kept[trace_id] = None
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            for span in self._traces.get(trace_id, ()):
                if not span.context.trace_flags.sampled:
                    self._export.on_end(_sampled(span))

    def recall(self, trace_id: int) -> list[ReadableSpan]:
        """What is remembered of a trace, spans that link to it and spans that have not ended among it."""
        with self._lock:
            self._forget()
            return [*self._traces.get(trace_id, ()), *(s for s in self._open.values() if trace_id in _traces_of(s))]

    def find(self, attribute: str, value: str) -> set[int]:
        """The traces of spans with this attribute."""
        with self._lock:
            return {
                span.context.trace_id
                for span in (*self._ended, *self._open.values())
                if (span.attributes or {}).get(attribute) == value
            }

    def latest(self, most: int, wanted: Callable[[ReadableSpan], bool]) -> list[list[ReadableSpan]]:
        """The spans of up to `most` traces that have a wanted span, the trace with the newest such span first."""
        with self._lock:
            self._forget()
            started = list(self._open.values())
            found: dict[int, None] = {}
            for span in chain(reversed(started), reversed(self._ended)):
                if len(found) == most:
                    break
                if wanted(span):
                    found.setdefault(span.context.trace_id)
            spans: dict[int, list[ReadableSpan]] = {number: list(self._traces.get(number, ())) for number in found}
            for span in started:
                if span.context.trace_id in spans:
                    spans[span.context.trace_id].append(span)
            return [[span for span in spans[number] if span.context.trace_id == number] for number in found]

    def shutdown(self) -> None:
        if self._export is not None:
            self._export.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._export is None or self._export.force_flush(timeout_millis)

    def _remember(self, span: ReadableSpan) -> None:
        self._ended.append(span)
        for number in _traces_of(span):
            self._traces.setdefault(number, []).append(span)
        self._forget()

    def _forget(self) -> None:
        oldest = time.time_ns() - int(self._seconds * 1e9)
        while self._ended and (len(self._ended) > self._most or (self._ended[0].end_time or 0) < oldest):
            for number in _traces_of(self._ended.popleft()):
                # What came first goes first, in each trace as well.
                spans = self._traces[number]
                del spans[0]
                if not spans:
                    del self._traces[number]


def _traces_of(span: ReadableSpan) -> Iterator[int]:
    """The trace of a span, and those that it links to; each once."""
    own = span.context.trace_id
    yield own
    if span.links:
        yield from {link.context.trace_id for link in span.links} - {own}


def _sampled(span: ReadableSpan) -> ReadableSpan:
    """The same span as one of a sampled trace: exporters take no other."""
    own = span.context
    return ReadableSpan(
        name=span.name,
        context=SpanContext(own.trace_id, own.span_id, own.is_remote, SAMPLED, own.trace_state),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _nobody(_trace_id: int) -> None: ...
