"""Jobs for later: another attempt, or a first one. The broker keeps them until they are due, so no process has to."""

import random
from datetime import UTC, datetime, timedelta
from typing import Final

from nats.js import JetStreamContext

from shared.contracts.jobs import Job, JobOptions, JobSpec, RetryPolicy
from shared.contracts.problems import ProblemType
from shared.nats.subjects import JOBS, TIMERS
from shared.runtime.pull import Delivery
from shared.stores.jobs.store import ATTEMPT, job_subject

__all__ = ["PASSING", "delay_before", "forward_due_retry", "schedule_retry", "submit_later"]

PASSING: Final = frozenset(
    {
        ProblemType.STAGE_UNAVAILABLE,
        ProblemType.STAGE_FAILED,
        ProblemType.BROKER_UNAVAILABLE,
        ProblemType.QUEUE_FULL,
        ProblemType.STORAGE_FULL,
        ProblemType.INDEX_UNAVAILABLE,
        ProblemType.DEADLINE_EXCEEDED,
        ProblemType.ENGINE_FAILED,
        ProblemType.MODEL_UNAVAILABLE,
        ProblemType.ANSWER_INTERRUPTED,
        ProblemType.COMMAND_INTERRUPTED,
        ProblemType.CLUSTER_UNAVAILABLE,
        ProblemType.SOURCE_UNAVAILABLE,
        ProblemType.INTERNAL,
    }
)
"""Problems that may be gone at the next try."""

SUBJECT: Final = "Sluice-Subject"
"""Header of a retry: where on the job queue it goes when it is due."""


def delay_before(attempt: int, policy: RetryPolicy) -> float:
    """Seconds to rest before this try, the second one being 2: exponential, with equal jitter (Brooker, "Exponential
    Backoff And Jitter", 2015)."""
    longest = min(policy.max_delay, policy.delay * 2.0 ** (attempt - 2))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


async def schedule_retry(
    jetstream: JetStreamContext, delivery: Delivery, job: Job, *, attempt: int, delay: float
) -> None:
    """Let the broker put the job back on the queue after `delay` seconds. Doing it again replaces the first."""
    headers = {key: value for key, value in delivery.headers.items() if not key.startswith("Nats-")}
    headers |= {
        ATTEMPT: str(attempt),
        SUBJECT: delivery.subject,
        "Nats-Schedule": _at(delay),
        "Nats-Schedule-Target": f"due.retry.{job.tenant}.{job.id}",
    }
    await jetstream.publish(f"timer.retry.{job.tenant}.{job.id}", delivery.data, headers=headers, stream=TIMERS)


async def forward_due_retry(jetstream: JetStreamContext, delivery: Delivery) -> None:
    """Put a retry that is due on the job queue. Raises nats errors; the broker drops what it has already."""
    _, _, tenant, job = delivery.subject.split(".")
    headers = {key: value for key, value in delivery.headers.items() if not key.startswith("Nats-")}
    subject = headers.pop(SUBJECT)
    headers["Nats-Msg-Id"] = f"{tenant}.{job}.{headers.get(ATTEMPT, '1')}"
    await jetstream.publish(subject, delivery.data, headers=headers, stream=JOBS)


async def submit_later(jetstream: JetStreamContext, spec: JobSpec, *, job: str, tenant: str, delay: float) -> None:
    """Put a job on the queue in `delay` seconds; it has an entry from then on. The same id twice is one job."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": job,
        "ce-source": "/sluice/scheduler",
        "ce-type": f"io.sluice.job.{spec.kind}",
        "ce-tenant": tenant,
        "content-type": "application/json",
        SUBJECT: job_subject(spec, tenant, JobOptions()),
        "Nats-Schedule": _at(delay),
        "Nats-Schedule-Target": f"due.retry.{tenant}.{job}",
    }
    subject = f"timer.retry.{tenant}.{job}"
    await jetstream.publish(subject, spec.model_dump_json().encode(), headers=headers, stream=TIMERS)


def _at(delay: float) -> str:
    """The broker's schedule for once, `delay` seconds from now."""
    due = datetime.now(UTC) + timedelta(seconds=delay)
    return f"@at {due.isoformat().replace('+00:00', 'Z')}"
