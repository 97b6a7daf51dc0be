"""Traces, metrics and logs: set up once per process, the same in every service."""

import json
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from prometheus_client import Counter, Gauge, Histogram

from shared.settings import ServiceSettings

__all__ = [
    "CANCEL_LATENCY",
    "IN_FLIGHT",
    "OUTCOMES",
    "QUEUE_WAIT",
    "ROOM",
    "WORK_TIME",
    "extract_trace",
    "flush_telemetry",
    "inject_trace",
    "set_up_telemetry",
    "trace_id",
    "tracer",
]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STAGE = ("stage", "variant", "lane")

QUEUE_WAIT = Histogram(
    "sluice_stage_queue_wait_seconds",
    "Time from the broker's receipt of a message to its pull.",
    STAGE,
    buckets=SECONDS,
)
WORK_TIME = Histogram(
    "sluice_stage_work_seconds",
    "Time from the pull of a message to its end in this stage.",
    STAGE,
    buckets=SECONDS,
)
IN_FLIGHT = Gauge("sluice_stage_in_flight", "Messages in work.", STAGE)
ROOM = Gauge("sluice_stage_room", "Messages that may be in work at once.", STAGE)
OUTCOMES = Counter("sluice_stage_messages_total", "Messages by how they ended in this stage.", (*STAGE, "outcome"))
CANCEL_LATENCY = Histogram(
    "sluice_stage_cancel_seconds",
    "Time from the reader's leaving to the end of the work for it.",
    STAGE,
    buckets=SECONDS,
)

tracer = trace.get_tracer("sluice")


def set_up_telemetry(service: str, settings: ServiceSettings) -> None:
    """Send logs as JSON lines to standard error and traces to the OTLP endpoint, where one is set."""
    _set_up_logs(service, settings)
    resource = Resource.create(
        {"service.name": service, "service.namespace": "sluice", "service.instance.id": settings.instance}
    )
    # Without an exporter spans are not recorded, yet every query still gets a trace id for logs and answers.
    sampler: Sampler = ALWAYS_OFF
    if settings.otlp_endpoint:
        sampler = ParentBased(TraceIdRatioBased(settings.trace_ratio))
    provider = TracerProvider(resource=resource, sampler=sampler)
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    trace.set_tracer_provider(provider)


def flush_telemetry() -> None:
    """Export what is still buffered; call it last."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def inject_trace(headers: MutableMapping[str, str]) -> None:
    """Add `traceparent` and `tracestate` of the current span."""
    propagate.inject(headers)


def extract_trace(headers: Mapping[str, str] | None) -> Context:
    """The remote parent that the headers name."""
    return propagate.extract(headers or {})


def trace_id(span: trace.Span | None = None) -> str:
    """The trace id of a span (default: the current one) as 32 hex digits; zeros outside any trace."""
    return format((span or trace.get_current_span()).get_span_context().trace_id, "032x")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, service, trace and span ids, and the record's extras."""

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
        return json.dumps(line, default=str, ensure_ascii=False)


def _set_up_logs(service: str, settings: ServiceSettings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service, settings.instance))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "faststream"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
