"""The job board: submits jobs and keeps their state.

A job is a CloudEvent 1.0 (NATS binary mode: attributes as `ce-*` headers, the spec as JSON) on `job.<kind>.<lane>`.
Its state is one entry of the `jobs` bucket; each change of state is also an event in `JOB_EVENTS`, the audit log.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from shared.envelope import Lane
from shared.forward import QUEUE_FULL
from shared.jobs import DropSpec, Job, JobProgress, JobSpec, JobState
from shared.problems import Problem, ProblemType
from shared.records import snapshot
from shared.telemetry import inject_trace
from shared.topology import JOB_STATUS, JOBS

__all__ = ["JobBoard", "check_same"]


class JobBoard:
    """Submits jobs and keeps their state. Any number of processes may use it at once."""

    def __init__(self, client: Client, jetstream: JetStreamContext) -> None:
        self._client = client
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def submit(self, spec: JobSpec, *, job: str, tenant: str, lane: Lane = Lane.BATCH) -> tuple[Job, bool]:
        """Put a job on the queue. Returns it, and whether it is new: the same id twice is one job.

        Raises Problem QUEUE_FULL when too many jobs wait, CONFLICT when the id stands for another job.
        """
        documents = len(spec.documents) if not isinstance(spec, DropSpec) else 0
        fresh = Job(
            id=job,
            kind=spec.kind,
            tenant=tenant,
            collection=spec.collection,
            created_at=time.time(),
            progress=JobProgress(documents=documents),
        )
        bucket = await self._open()
        created = True
        revision = 0
        try:
            revision = await bucket.create(_key(tenant, job), fresh.model_dump_json().encode())
        except KeyWrongLastSequenceError:
            created = False
            fresh = await self.get(tenant, job)
            check_same(fresh, spec.kind, spec.collection)
        if fresh.state is JobState.QUEUED:
            # Also for one that exists: its submitter may have died between the two steps. The broker drops a second.
            try:
                await self._enqueue(spec, fresh, lane)
            except Problem:
                if created:  # an entry from before may well be of a job that is in the queue
                    await bucket.delete(_key(tenant, job))
                raise
            if created:
                await self._announce(fresh, revision)
        return fresh, created

    async def get(self, tenant: str, job: str) -> Job:
        """Raises Problem NOT_FOUND."""
        bucket = await self._open()
        try:
            entry = await bucket.get(_key(tenant, job))
        except (KeyNotFoundError, InvalidKeyError):
            raise Problem(ProblemType.NOT_FOUND, f"There is no job '{job}'.") from None
        return Job.model_validate_json(entry.value or b"")

    async def list(self, tenant: str, *, state: JobState | None = None, limit: int = 100) -> list[Job]:
        """The newest jobs, newest first."""
        bucket = await self._open()
        jobs = [Job.model_validate_json(value) async for _, value in snapshot(bucket, f"{tenant}.>")]
        chosen = [job for job in jobs if state is None or job.state is state]
        return sorted(chosen, key=lambda job: job.created_at, reverse=True)[:limit]

    async def update(self, tenant: str, job: str, change: Callable[[Job], Job], *, reopen: bool = False) -> Job:
        """Change a job's entry, whoever else does at the same time; announce a change of state.

        An ended job is never changed, unless it failed and is to be opened again. Raises Problem NOT_FOUND.
        """
        bucket = await self._open()
        while True:
            try:
                entry = await bucket.get(_key(tenant, job))
            except (KeyNotFoundError, InvalidKeyError):
                raise Problem(ProblemType.NOT_FOUND, f"There is no job '{job}'.") from None
            old = Job.model_validate_json(entry.value or b"")
            if old.state.ended and not (reopen and old.state is JobState.FAILED):
                return old
            new = change(old)
            try:
                revision = await bucket.update(_key(tenant, job), new.model_dump_json().encode(), last=entry.revision)
            except KeyWrongLastSequenceError:
                continue
            if new.state is not old.state:
                await self._announce(new, revision)
            else:
                await self._client.publish(
                    f"event.job.{job}.progress", b"", headers=_event_headers(new, "progress", revision)
                )
            return new

    async def adopt(self, job: Job) -> None:
        """Make an entry for a job that came straight from the bus; an existing one stays."""
        bucket = await self._open()
        try:
            await bucket.create(_key(job.tenant, job.id), job.model_dump_json().encode())
        except KeyWrongLastSequenceError:
            return

    async def _enqueue(self, spec: JobSpec, job: Job, lane: Lane) -> None:
        headers = _event_headers(job, "submitted") | {"Nats-Msg-Id": job.id}
        inject_trace(headers)
        try:
            await self._js.publish(
                f"job.{spec.kind}.{lane}", spec.model_dump_json().encode(), headers=headers, stream=JOBS
            )
        except APIError as error:
            if error.err_code not in QUEUE_FULL:
                raise
            raise Problem(
                ProblemType.QUEUE_FULL,
                "Too many jobs are waiting. Try again in a minute.",
                headers={"Retry-After": "60"},
            ) from None

    async def _announce(self, job: Job, revision: int) -> None:
        headers = _event_headers(job, job.state.value, revision)
        headers["Nats-Msg-Id"] = headers["ce-id"]
        await self._js.publish(f"event.job.{job.id}.{job.state}", job.model_dump_json().encode(), headers=headers)

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(JOB_STATUS)
        return self._bucket


def check_same(job: Job, kind: str, collection: str) -> None:
    """Raises Problem CONFLICT where an id stands for another job than the one that is asked for."""
    if (job.kind, job.collection) != (kind, collection):
        raise Problem(ProblemType.CONFLICT, "This Idempotency-Key was used for another job.")


def _key(tenant: str, job: str) -> str:
    return f"{tenant}.{job}"


def _event_headers(job: Job, what: str, revision: int | None = None) -> dict[str, str]:
    """CloudEvents attributes of a job itself, or of what has become of its entry at a revision."""
    return {
        "ce-specversion": "1.0",
        "ce-id": job.id if revision is None else f"{job.id}.{revision}",
        "ce-source": "/sluice/jobs",
        "ce-type": f"io.sluice.job.{job.kind if revision is None else what}",
        "ce-time": datetime.now(UTC).isoformat(),
        "ce-subject": job.id,
        "ce-tenant": job.tenant,
        "content-type": "application/json",
    }
