"""Traces and logs, set up once per process and in the same way in every service."""

import json
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from threading import Thread
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Gauge

from shared.telemetry.metrics import tenants
from shared.telemetry.redaction import redacted
from shared.telemetry.settings import TelemetrySettings
from shared.telemetry.trace_memory import TraceMemory
from shared.telemetry.trace_sampling import Rate, Ratio, TraceSampler
from shared.version import VERSION

__all__ = [
    "extract_trace",
    "failed",
    "flush_telemetry",
    "inject_trace",
    "set_up_telemetry",
    "trace_id",
    "trace_memory",
    "tracer",
    "unrecorded",
]

BUILD = Gauge("sluice_build_info", "1; the labels name the service and its version.", ("component", "version"))

FLUSH_SECONDS: Final = 2.0
"""Seconds for what is left to reach its receiver when the process ends."""

tracer = trace.get_tracer("sluice")

_w3c = TraceContextTextMapPropagator()
_records_all = True
_memories: list[TraceMemory] = []
_exporters: list[SpanExporter] = []


def set_up_telemetry(service: str, settings: TelemetrySettings) -> None:
    """Send logs as JSON lines to standard error and traces to the OTLP endpoint, where one is set."""
    _set_up_logs(service, settings)
    tenants.most = settings.metric_tenants
    BUILD.labels(service, VERSION).set(1)
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": "sluice",
            "service.instance.id": settings.instance,
            "service.version": VERSION,
        }
    )
    global _records_all
    _records_all = bool(settings.otlp_endpoint and settings.trace_errors)
    # Every query gets a trace id for logs and answers, whether it is recorded or not.
    if settings.otlp_endpoint:
        sampler = TraceSampler(Ratio(settings.trace_ratio), record_all=_records_all)
    else:
        sampler = TraceSampler(Rate(settings.trace_rate), record_all=False)
    provider = TracerProvider(resource=resource, sampler=sampler)
    memory = TraceMemory(spans=settings.trace_spans, seconds=settings.trace_seconds, export=_exporting(settings))
    provider.add_span_processor(memory)
    trace.set_tracer_provider(provider)
    _memories[:] = [memory]


def trace_memory() -> TraceMemory | None:
    """What this process remembers of traces; None before telemetry is set up."""
    return _memories[0] if _memories else None


def flush_telemetry() -> None:
    """Export what is still buffered, if that is soon done; call it last."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return
    flushing = Thread(target=provider.force_flush, daemon=True)
    flushing.start()
    flushing.join(FLUSH_SECONDS)
    for exporter in _exporters:
        exporter.shutdown()  # which ends its tries at a receiver that does not answer
    provider.shutdown()


def failed(span: Span, kind: str) -> None:
    """Mark a span as failed, for a reason of few values."""
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR, kind)


def inject_trace(headers: MutableMapping[str, str]) -> None:
    """Add `traceparent` and `tracestate` of the current span."""
    _w3c.inject(headers)


def extract_trace(headers: Mapping[str, str] | None) -> Context:
    """The remote parent that the headers name."""
    return _w3c.extract(headers or {})


def unrecorded(context: Context | None = None) -> bool:
    """Whether the spans below a context (default: the current one) would all be dropped, so that none need be made."""
    parent = trace.get_current_span(context).get_span_context()
    return parent.is_valid and not parent.trace_flags.sampled and not _records_all


def trace_id(span: trace.Span | None = None) -> str:
    """The trace id of a span (default: the current one) as 32 hex digits; zeros outside any trace."""
    return format((span or trace.get_current_span()).get_span_context().trace_id, "032x")


def _exporting(settings: TelemetrySettings) -> SpanProcessor | None:
    if not settings.otlp_endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers else ""
    pairs = (pair.partition("=") for pair in headers.split(",") if pair)
    exporter = OTLPSpanExporter(
        endpoint=settings.otlp_endpoint, headers={name.strip(): value.strip() for name, _, value in pairs} or None
    )
    _exporters[:] = [exporter]
    return BatchSpanProcessor(exporter)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, service, trace and span ids, and the record's extras.

    What stands before the host of a URL is left out.
    """

    _own = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._origin = {"service": service, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{created}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._origin,
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line["trace_id"] = format(span.trace_id, "032x")
            line["span_id"] = format(span.span_id, "016x")
        line.update({k: v for k, v in record.__dict__.items() if k not in self._own})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, default=str, ensure_ascii=False))


def _set_up_logs(service: str, settings: TelemetrySettings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service, settings.instance))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "faststream"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
