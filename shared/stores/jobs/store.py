"""The records of jobs: submits jobs and keeps their state.

A job is a CloudEvent 1.0 (NATS binary mode: attributes as `ce-*` headers, the spec as JSON) on
`job.<kind>.<priority>.<tenant>`. Each change of its state is an event in `JOB_EVENTS`, the audit log, which decides: an
event is taken by the broker only if it follows the last one of its job, so of two that change a job at once one wins.
The entry in the `jobs` bucket is a copy of what the last event says, and of the progress since. A process that dies
between the two leaves an older copy, and whoever changes the job next takes the state from the event.
"""

import asyncio
import time
from collections.abc import Callable, Container
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NotFoundError

from shared.contracts.jobs import KINDS, DeleteSpec, IngestSpec, JobSpec
from shared.contracts.jobs.job import Job, JobOptions, JobProgress, JobState
from shared.contracts.problems import Problem, ProblemType
from shared.nats.errors import CHANGING, IN_PROCESS, OUTDATED, QUEUE_FULL, is_storage_full
from shared.nats.kv import TRIES, Repository
from shared.nats.subjects import JOB_EVENTS, JOB_STATUS
from shared.stores.dead_letters import REPLAYED as REOPENED
from shared.stores.jobs.index import IndexedJob, JobIndex
from shared.stores.jobs.limits import check_waiting_jobs
from shared.stores.jobs.specs import SpecStore
from shared.telemetry.messaging import sending
from shared.telemetry.tracing import inject_trace

__all__ = ["BY", "OPTIONS", "JobStore", "cancel_subject", "check_same", "fresh_job", "job_subject"]

OPTIONS: Final = "Sluice-Job-Options"
"""Header of a job's event: its options as JSON, where they are not the usual ones."""

ATTEMPT: Final = "Sluice-Attempt"
"""Header of a job's event: which try at the job it asks for, where it is not the first."""

BY: Final = "ce-by"
"""Header of an event, and of a cancel: who asked for it."""

AGREEING: Final = frozenset({IN_PROCESS, CHANGING})
"""Refusals by a cluster whose nodes have not agreed yet on the same message, or on another event of the job."""

ANSWER_TIMEOUT: Final = 5.0
LOOK: Final = 0.02
"""Seconds for them to agree, and between two tries to write meanwhile."""

USUAL: Final = JobOptions()

MOST_CHILDREN: Final = 100_000
READ_AT_ONCE: Final = 32


def job_subject(spec: JobSpec, tenant: str, options: JobOptions) -> str:
    return f"job.{spec.kind}.{options.priority}.{tenant}"


def cancel_subject(job: str) -> str:
    """Where the worker of a job receives the request to end it."""
    return f"control.job.{job}.cancel"


def fresh_job(spec: JobSpec, *, job: str, tenant: str, options: JobOptions, created_at: float) -> Job:
    """The entry of a job that was just submitted."""
    documents = len(spec.documents) if isinstance(spec, IngestSpec | DeleteSpec) else 0
    return Job(
        id=job,
        kind=spec.kind,
        tenant=tenant,
        collection=getattr(spec, "collection", ""),
        name=getattr(spec, "name", ""),
        created_at=created_at,
        options=options,
        progress=JobProgress(documents=documents),
    )


class JobStore:
    """Submits jobs and keeps their state. Any number of processes may use it at once."""

    def __init__(self, client: Client, jetstream: JetStreamContext) -> None:
        self._client = client
        self._js = jetstream
        self._entries = Repository(jetstream, JOB_STATUS, Job.model_validate_json, noun="job")
        self._index = JobIndex(jetstream)
        self.specs = SpecStore(jetstream)

    async def submit(self, spec: JobSpec, *, job: str, tenant: str, options: JobOptions = USUAL) -> tuple[Job, bool]:
        """Put a job on the queue. Returns it, and whether it is new: the same id twice is one job.

        Raises Problem QUEUE_FULL when too many jobs wait, of the tenant or of all, and CONFLICT when the id stands for
        another job.
        """
        try:
            known = await self.get(tenant, job)
        except Problem:
            await check_waiting_jobs(self._js, tenant)
            entry = fresh_job(spec, job=job, tenant=tenant, options=options, created_at=time.time())
            # First the queue: what is in it is done even if its submitter dies now, and then makes its own entry.
            new = await self._enqueue(spec, entry)
            # A worker may have been quicker to make the entry; the job is new all the same.
            return await self.adopt(entry, spec, by=options.by), new
        check_same(known, spec.kind, getattr(spec, "collection", ""))
        return known, False

    async def adopt(self, job: Job, spec: JobSpec, *, by: str = "") -> Job:
        """The entry of a job that is on the queue; it is made if there is none."""
        try:
            return await self.get(job.tenant, job.id)
        except Problem:
            pass
        await self.specs.keep(job.tenant, job.id, spec)
        announced = await self._announce(job, after=0, by=by, reason="submitted")
        if announced is None:
            return await self._recover(job.tenant, job.id)
        entry = job.model_copy(update={"event": announced})
        return (await self._entries.create(_key(job.tenant, job.id), entry))[0]

    async def get(self, tenant: str, job: str) -> Job:
        """Raises Problem NOT_FOUND."""
        entry = await self._entries.get(_key(tenant, job))
        if entry is None:
            raise _missing(job)
        return entry

    async def list(
        self,
        tenant: str,
        *,
        state: JobState | None = None,
        kind: str | None = None,
        kinds: Container[str] | None = None,
        collection: str | None = None,
        labels: dict[str, str] | None = None,
        parent: str | None = None,
        steps: bool = True,
        after: str | None = None,
        sees: Callable[[str], bool] | None = None,
        shows: Callable[[IndexedJob], bool] | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """The newest jobs, newest first: of those with a collection only what `sees` says yes to, and of all of them
        only what `shows` does; without `steps` none that is a step of a pipeline. They are of the `kind`, and of one of
        the `kinds`. `after` is the id of the job that the list goes on behind.

        After the first time it costs what has changed since, and the jobs that it returns. Raises Problem NOT_FOUND
        where the list has no job `after`.
        """
        index = await self._index.of(tenant)

        def visible(job: IndexedJob) -> bool:
            return (sees is None or sees(job.collection)) and (shows is None or shows(job))

        last = None if after is None else index.get(after)
        if after is not None and (last is None or not visible(last)):
            raise _missing(after)
        chosen = (
            job
            for job in index.newest(last)
            if (state is None or job.state is state)
            and visible(job)
            and (kind is None or job.kind == kind)
            and (kinds is None or job.kind in kinds)
            and (collection is None or job.collection == collection)
            and (parent is None or job.parent == parent)
            and (steps or job.parent is None)
            and (not labels or labels.items() <= job.labels.items())
        )
        found: list[Job] = []
        while some := list(islice(chosen, min(READ_AT_ONCE, limit - len(found)))):
            entries = await asyncio.gather(*(self._entries.get(_key(tenant, job.id)) for job in some))
            for job, entry in zip(some, entries, strict=True):
                if entry is None:
                    index.forget(job)
                elif state is None or entry.state is state:
                    found.append(entry)
        return found

    async def update(
        self,
        tenant: str,
        job: str,
        change: Callable[[Job], Job],
        *,
        reopen: bool = False,
        by: str = "",
        reason: str = "",
    ) -> Job:
        """Change a job's entry, whoever else does at the same time. A change of state is an event, `by` whom and why.

        An ended job is never changed, unless it failed and is to be opened again. `change` may be called several
        times. Raises Problem NOT_FOUND, or CONFLICT after many changes by others.
        """
        for _ in range(TRIES):
            stored = await self._entries.read(_key(tenant, job))
            if stored is None:
                raise _missing(job)
            old = stored.record
            if old.state.ended and not (reopen and old.state is JobState.FAILED):
                return old
            new = change(old)
            if new.state is not old.state:
                announced = await self._announce(new, after=old.event, by=by, reason=reason)
                if announced is None:
                    await self._recover(tenant, job)
                    continue
                entry = new.model_copy(update={"event": announced})
                if await self._entries.put(_key(tenant, job), entry, revision=stored.revision) is None:
                    entry = await self._copy(entry)
                await self._tell(entry)
                return entry
            if new == old:
                return old
            if await self._entries.put(_key(tenant, job), new, revision=stored.revision) is not None:
                await self._tell(new)
                return new
        raise self._entries.conflict(job)

    async def cancel(self, tenant: str, job: str, *, by: str = "", reason: str = "") -> Job:
        """End a job that waits, and ask whoever runs one that runs to end it; the jobs that it has submitted as well.

        Raises Problem NOT_FOUND."""

        def change(old: Job) -> Job:
            if old.state is JobState.QUEUED:
                return old.model_copy(update={"state": JobState.CANCELLED, "finished_at": time.time()})
            return old.model_copy(update={"cancel_requested": True})

        changed = await self.update(tenant, job, change, by=by, reason=reason or "cancelled")
        if not changed.state.ended or changed.state is JobState.CANCELLED:
            whom = {BY: _one_line(by)} if by else None
            await self._client.publish(cancel_subject(job), reason.encode(), headers=whom)
            if (spec := KINDS.get(changed.kind)) is not None and spec.has_children:
                await self._cancel_children(changed, by=by, reason=reason)
        return changed

    async def _cancel_children(self, parent: Job, *, by: str, reason: str) -> None:
        for child in await self.list(parent.tenant, parent=parent.id, limit=MOST_CHILDREN):
            if not child.state.ended:
                await self.cancel(child.tenant, child.id, by=by, reason=reason or f"its {parent.kind} was cancelled")

    async def requeue(self, spec: JobSpec, job: Job, *, attempt: int, reopen: bool = False) -> None:
        """Put a job on the queue again; with `reopen` it runs although it has failed. Raises Problem QUEUE_FULL."""
        await self._enqueue(spec, job, attempt=attempt, reopen=reopen)

    async def _recover(self, tenant: str, job: str) -> Job:
        """Take a job's state from its last event: somebody changed it and has not, or not yet, copied that."""
        try:
            message = await self._js.get_msg(JOB_EVENTS, subject=f"event.job.{job}.*")
        except NotFoundError:
            # The log has forgotten the job's events.
            return await self._copy((await self.get(tenant, job)).model_copy(update={"event": 0}), force=True)
        found = Job.model_validate_json(message.data or b"").model_copy(update={"event": message.seq})
        if found.tenant != tenant:
            raise Problem(ProblemType.CONFLICT, f"The id '{job}' is taken by a job of another tenant.")
        return await self._copy(found)

    async def _copy(self, job: Job, *, force: bool = False) -> Job:
        """Make the entry say what an event says, unless it says something newer. Returns the entry."""

        def newer(known: Job | None) -> Job:
            return known if known is not None and known.event >= job.event and not force else job

        _, entry = await self._entries.change(_key(job.tenant, job.id), newer)
        assert entry is not None
        return entry

    async def _enqueue(self, spec: JobSpec, job: Job, *, attempt: int = 1, reopen: bool = False) -> bool:
        """Returns whether it was not in the queue already."""
        headers = _attributes(job, None) | {"Nats-Msg-Id": f"{job.tenant}.{job.id}.{attempt}"}
        if job.options != USUAL:
            headers[OPTIONS] = job.options.model_dump_json(exclude_defaults=True)
        if attempt > 1:
            headers[ATTEMPT] = str(attempt)
        if reopen:
            headers[REOPENED] = str(attempt)
        subject = job_subject(spec, job.tenant, job.options)
        with sending(
            f"job.{job.kind}",
            subject=subject,
            message_id=headers["Nats-Msg-Id"],
            conversation=job.id,
            tenant=job.tenant,
        ):
            inject_trace(headers)
            try:
                ack = await self._publish(subject, spec.model_dump_json().encode(), headers)
            except APIError as error:
                if error.err_code not in QUEUE_FULL or is_storage_full(error):
                    raise
                raise Problem(
                    ProblemType.QUEUE_FULL,
                    "Too many jobs are waiting. Try again in a minute.",
                    headers={"Retry-After": "60"},
                ) from None
        return not ack.duplicate

    async def _announce(self, job: Job, *, after: int, by: str, reason: str) -> int | None:
        """Write an event that follows the event `after`. Returns its number, or None where another one came first."""
        headers = _attributes(job, job.state.value) | {
            "Nats-Expected-Last-Subject-Sequence": str(after),
            "Nats-Expected-Last-Subject-Sequence-Subject": f"event.job.{job.id}.*",
        }
        if by:
            headers[BY] = _one_line(by)
        if reason:
            headers["ce-reason"] = _one_line(reason)
        subject = f"event.job.{job.id}.{job.state}"
        try:
            # Where nobody says that it was stored, it may have been: then the next change finds it.
            ack = await self._publish(subject, job.model_dump_json().encode(), headers)
        except APIError as error:
            if error.err_code != OUTDATED:
                raise
            return None
        return int(ack.seq)

    async def _publish(self, subject: str, data: bytes, headers: dict[str, str]) -> PubAck:
        """Have the broker store a message. Raises nats errors, and Problem BROKER_UNAVAILABLE."""
        give_up = time.monotonic() + ANSWER_TIMEOUT
        while True:
            try:
                return await self._js.publish(subject, data, headers=dict(headers))
            except APIError as error:
                if error.err_code not in AGREEING:
                    raise
            if time.monotonic() > give_up:
                detail = "The nodes of the message broker do not agree. Try again in a moment."
                raise Problem(ProblemType.BROKER_UNAVAILABLE, detail, headers={"Retry-After": "1"})
            await asyncio.sleep(LOOK)

    async def _tell(self, job: Job) -> None:
        """Say that a job's entry has changed, to those who read it then: after its event it may be an older one."""
        await self._client.publish(f"event.job.{job.id}.progress", b"", headers=_attributes(job, "progress"))


def _missing(job: str) -> Problem:
    return Problem(ProblemType.NOT_FOUND, f"There is no job '{job}'.")


def check_same(job: Job, kind: str, collection: str) -> None:
    """Raises Problem CONFLICT where an id stands for another job than the one that is asked for."""
    if (job.kind, job.collection) != (kind, collection):
        raise Problem(ProblemType.CONFLICT, "This Idempotency-Key was used for another job.")


def _one_line(text: str) -> str:
    """What may stand in a header."""
    return " ".join(text.split())[:500]


def _key(tenant: str, job: str) -> str:
    return f"{tenant}.{job}"


def _attributes(job: Job, what: str | None) -> dict[str, str]:
    """CloudEvents attributes of a job itself, or of what has become of it."""
    now = datetime.now(UTC).isoformat()
    return {
        "ce-specversion": "1.0",
        "ce-id": job.id if what is None else f"{job.id}.{what}.{now}",
        "ce-source": "/sluice/jobs",
        "ce-type": f"io.sluice.job.{job.kind if what is None else what}",
        "ce-time": now,
        "ce-subject": job.id,
        "ce-tenant": job.tenant,
        "content-type": "application/json",
    }
