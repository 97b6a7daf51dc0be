"""After a restore: every job that had not ended is in the queue, so that it runs again from its checkpoint.

The streams of a backup are of moments that follow each other closely. So a job may be in the log of events and not in
the queue, because it was submitted, or put off, between the two.
"""

from typing import Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from shared.contracts.jobs import Job, JobState
from shared.contracts.problems import Problem
from shared.nats.kv import Repository
from shared.nats.subjects import JOB_EVENTS, JOB_STATUS, JOBS, TIMERS
from shared.stores.jobs.store import ATTEMPT, JobStore

__all__ = ["requeue_unended"]

RETRIES: Final = ("timer.retry.>", "due.retry.>")


async def requeue_unended(client: Client, jetstream: JetStreamContext) -> int:
    """Put jobs back on the queue that have not ended and are in no queue. Returns their number. Raises nats errors."""
    store = JobStore(client, jetstream)
    waiting = await _tries(jetstream, JOBS, ">")
    for subject in RETRIES:
        waiting |= await _tries(jetstream, TIMERS, subject)
    entries = Repository(jetstream, JOB_STATUS, Job.model_validate_json)
    again = 0
    for entry in await entries.list():
        job = await _newest(jetstream, entry)
        attempt = max(1, job.attempt + (job.state is JobState.QUEUED))
        if job.state.ended or (job.tenant, job.id, attempt) in waiting:
            continue
        try:
            spec = await store.specs.get(job.tenant, job.id)
        except Problem:
            continue  # nobody knows any more what it was to do
        await store.requeue(spec, job, attempt=attempt)
        again += 1
    return again


async def _newest(jetstream: JetStreamContext, entry: Job) -> Job:
    """The job as its last event says, which decides."""
    try:
        message = await jetstream.get_msg(JOB_EVENTS, subject=f"event.job.{entry.id}.*")
    except NotFoundError:
        return entry
    return Job.model_validate_json(message.data or b"") if (message.seq or 0) > entry.event else entry


async def _tries(jetstream: JetStreamContext, stream: str, subject: str) -> set[tuple[str, str, int]]:
    """The tries that are in a stream: tenant, job and number."""
    found: set[tuple[str, str, int]] = set()
    sequence = 1
    while True:
        try:
            message = await jetstream.get_msg(stream, sequence, subject=subject, next=True)
        except NotFoundError:
            return found
        headers = message.headers or {}
        tenant = headers.get("ce-tenant") or (message.subject or "").rpartition(".")[2]
        job = headers.get("ce-id") or f"s{message.seq}"
        found.add((tenant, job, int(headers.get(ATTEMPT, "1"))))
        sequence = (message.seq or sequence) + 1
