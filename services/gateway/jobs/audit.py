"""The audit log of one job: each change of its state, with who made it and why."""

from contextlib import aclosing
from datetime import datetime
from typing import Final

from nats.aio.msg import Msg
from nats.js import JetStreamContext

from shared.contracts.jobs.job import Job
from shared.stores.jobs.events import stored_events
from sluice.api.jobs import AuditEvent, JobState

__all__ = ["audit_entries"]

LONGEST: Final = 1000
"""Entries of one job that are shown: its first ones."""


async def audit_entries(jetstream: JetStreamContext, tenant: str, job: str) -> list[AuditEvent]:
    """Oldest first; empty where the log knows, or still knows, nothing of the job."""
    entries: list[AuditEvent] = []
    async with aclosing(stored_events(jetstream, f"event.job.{job}.*")) as events:
        async for message in events:
            found = Job.model_validate_json(message.data)
            if found.tenant == tenant:
                entries.append(_entry(message, found))
            if len(entries) == LONGEST:
                break
    return entries


def _entry(message: Msg, job: Job) -> AuditEvent:
    headers = message.headers or {}
    return AuditEvent(
        at=datetime.fromisoformat(headers["ce-time"]),
        state=JobState(job.state),
        by=headers.get("ce-by", ""),
        reason=headers.get("ce-reason", ""),
        attempt=job.attempt,
        event=message.metadata.sequence.stream,
    )
