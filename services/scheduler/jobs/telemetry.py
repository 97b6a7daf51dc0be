"""Spans and metrics of jobs, documents and schedules."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from opentelemetry.trace import Span
from prometheus_client import Counter, Gauge, Histogram

from shared.contracts.jobs import Job
from shared.contracts.problems import Problem
from shared.runtime.delivery import Delivery
from shared.telemetry.messaging import CONVERSATION, processing
from shared.telemetry.metrics import exemplar
from shared.telemetry.tracing import extract_trace, failed

__all__ = [
    "CANCEL_TIME",
    "INGESTED",
    "INGESTED_BYTES",
    "INGESTED_CHUNKS",
    "JOBS_ENDED",
    "TICKS",
    "TICK_LATENESS",
    "job_span",
    "observed",
]

LONG: Final = (0.1, 0.5, 1, 5, 10, 60, 300, 1800, 7200)

JOBS_ENDED = Counter("sluice_jobs_total", "Jobs by how a try at them ended.", ("kind", "outcome"))
JOB_TIME = Histogram("sluice_job_seconds", "Time of one try at a job.", ("kind",), buckets=LONG)
JOB_WAIT = Histogram(
    "sluice_job_queue_wait_seconds", "Time from a job's being put on the queue to its start.", ("kind",), buckets=LONG
)
JOBS_RUNNING = Gauge("sluice_jobs_running", "Jobs in work in this process.", ("kind",))
CANCEL_TIME = Histogram(
    "sluice_job_cancel_seconds",
    "Time from the request to cancel a running job to its end.",
    ("kind",),
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
INGESTED = Counter(
    "sluice_ingest_documents_total",
    "Documents that jobs have dealt with, by outcome: indexed, skipped, deleted or failed.",
    ("outcome",),
)
INGESTED_CHUNKS = Counter("sluice_ingest_chunks_total", "Chunks of documents that were indexed.")
INGESTED_BYTES = Counter("sluice_ingest_bytes_total", "Bytes of documents that were indexed or skipped.")
TICKS = Counter(
    "sluice_schedule_ticks_total", "Ticks of schedules by what became of them: run, skipped or missed.", ("outcome",)
)
TICK_LATENESS = Histogram(
    "sluice_schedule_lateness_seconds",
    "Time from a tick that was due to the submission of its job.",
    buckets=(0.1, 0.5, 1, 5, 10, 60, 300, 3600, 86400),
)


def job_span(delivery: Delivery, job: Job) -> AbstractContextManager[Span]:
    """The span of one delivery of a job."""
    return processing(
        f"job.{job.kind}",
        subject=delivery.subject,
        consumer=delivery.subject.removeprefix("job.").replace(".", "_"),
        context=extract_trace(delivery.headers),
        deliveries=delivery.deliveries,
        attributes={
            "messaging.message.id": delivery.headers.get("Nats-Msg-Id", ""),
            CONVERSATION: job.id,
            "sluice.waited_ms": round(max(0.0, time.time() - delivery.stored_at) * 1e3, 3),
            "sluice.job.attempt": job.attempt,
        },
    )


@contextmanager
def observed(delivery: Delivery, job: Job) -> Iterator[None]:
    """The block is a try at a job."""
    JOB_WAIT.labels(job.kind).observe(max(0.0, time.time() - delivery.stored_at))
    began = time.perf_counter()
    with job_span(delivery, job) as span, JOBS_RUNNING.labels(job.kind).track_inprogress():
        try:
            yield
        except Exception as error:
            failed(span, error.kind.code if isinstance(error, Problem) else type(error).__name__)
            raise
        finally:
            JOB_TIME.labels(job.kind).observe(time.perf_counter() - began, exemplar())
