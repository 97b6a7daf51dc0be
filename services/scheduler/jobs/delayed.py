"""A job for later: the broker keeps it until then, and no process has to live for it."""

from datetime import UTC, datetime, timedelta

from nats.js import JetStreamContext

from services.scheduler.jobs.retry import SUBJECT
from shared.contracts.jobs import JobOptions, JobSpec
from shared.nats.subjects import TIMERS
from shared.stores.jobs.store import job_subject

__all__ = ["submit_later"]


async def submit_later(jetstream: JetStreamContext, spec: JobSpec, *, job: str, tenant: str, delay: float) -> None:
    """Put a job on the queue in `delay` seconds; it is on the board from then on. The same id twice is one job."""
    due = datetime.now(UTC) + timedelta(seconds=delay)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": job,
        "ce-source": "/sluice/scheduler",
        "ce-type": f"io.sluice.job.{spec.kind}",
        "ce-tenant": tenant,
        "content-type": "application/json",
        SUBJECT: job_subject(spec, tenant, JobOptions()),
        "Nats-Schedule": f"@at {due.isoformat().replace('+00:00', 'Z')}",
        "Nats-Schedule-Target": f"due.retry.{tenant}.{job}",
    }
    subject = f"timer.retry.{tenant}.{job}"
    await jetstream.publish(subject, spec.model_dump_json().encode(), headers=headers, stream=TIMERS)
