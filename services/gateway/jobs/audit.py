"""The audit log of one job: each change of its state, with who made it and why."""

from contextlib import aclosing
from datetime import datetime
from typing import Final

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from pydantic import BaseModel, ConfigDict

from shared.contracts.jobs.job import Job, JobState
from shared.stores.jobs.events import stored_events

__all__ = ["AuditEntry", "audit_entries"]

LONGEST: Final = 1000
"""Entries of one job that are shown: its first ones."""


class AuditEntry(BaseModel):
    """`at` is Unix seconds; `by` is a person, a worker, a pipeline or a schedule, and empty where nobody said.

    `event` is the number of the event in the log.
    """

    model_config = ConfigDict(frozen=True)

    at: float
    state: JobState
    by: str
    reason: str
    attempt: int
    event: int


async def audit_entries(jetstream: JetStreamContext, tenant: str, job: str) -> list[AuditEntry]:
    """Oldest first; empty where the log knows, or still knows, nothing of the job."""
    entries: list[AuditEntry] = []
    async with aclosing(stored_events(jetstream, f"event.job.{job}.*")) as events:
        async for message in events:
            found = Job.model_validate_json(message.data)
            if found.tenant == tenant:
                entries.append(_entry(message, found))
            if len(entries) == LONGEST:
                break
    return entries


def _entry(message: Msg, job: Job) -> AuditEntry:
    headers = message.headers or {}
    return AuditEntry(
        at=datetime.fromisoformat(headers["ce-time"]).timestamp(),
        state=job.state,
        by=headers.get("ce-by", ""),
        reason=headers.get("ce-reason", ""),
        attempt=job.attempt,
        event=message.metadata.sequence.stream,
    )
