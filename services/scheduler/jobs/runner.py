"""Runs jobs: takes them off the queue, keeps their records up to date, and brings each to its end.

A job is delivered at least once and acknowledged after its effect; its kind makes sure that doing it again does no
harm. A problem of the job's own ends it; trouble that may pass is another try, later, as the job's policy says.
"""

import logging
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import anyio
from nats.aio.msg import Msg
from pydantic import ValidationError

from services.scheduler.jobs.authorization import JobAuthorizer
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobKind
from services.scheduler.jobs.retry import PASSING, delay_before, schedule_retry
from services.scheduler.jobs.telemetry import CANCEL_TIME, JOBS_ENDED, job_span, observed
from services.scheduler.tracking.facts import FactRecorder
from shared.contracts.jobs import Job, JobOptions, JobSpec, JobState, check_ids, decode_spec
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.pull import Delivery
from shared.service.bus import Bus
from shared.stores.artifacts import Artifacts
from shared.stores.dead_letters import REPLAYED, DeadLetters
from shared.stores.jobs.store import ATTEMPT, BY, OPTIONS, JobStore, fresh_job
from shared.telemetry.tracing import failed

__all__ = ["JobRunner", "started_job"]

log = logging.getLogger(__name__)

TOO_EARLY: Final = 2.0
"""Seconds after which a try is looked at again that came while the one before it still ran."""

MOST_FAULTS: Final = 5
"""Faults of a message that its dead letter names."""


@dataclass(slots=True)
class _Running:
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    cancelled_at: float = 0.0
    by: str = ""
    why: str = ""


class JobRunner:
    """`handle` is for the job queue, `hear_cancel` for the subscription to cancels."""

    def __init__(
        self,
        bus: Bus,
        job_store: JobStore,
        artifacts: Artifacts,
        dead_letters: DeadLetters,
        kinds: Mapping[str, JobKind],
        *,
        max_crashes: int,
        instance: str,
        ack_wait: float,
        facts: FactRecorder | None = None,
    ) -> None:
        self._bus = bus
        self._facts = facts
        self._job_store = job_store
        self._authorizer = JobAuthorizer(bus.jetstream, job_store)
        self._artifacts = artifacts
        self._dead_letters = dead_letters
        self._kinds = kinds
        self._max_crashes = max_crashes
        self._instance = instance
        self._ack_wait = ack_wait
        self._running: dict[str, _Running] = {}

    async def hear_cancel(self, message: Msg) -> None:
        """Take in a cancel from `control.job.<job>.cancel`."""
        running = self._running.get(message.subject.split(".")[2])
        if running is not None:
            _withdraw(running, (message.headers or {}).get(BY, ""), message.data.decode(errors="replace"))

    async def handle(self, delivery: Delivery) -> None:
        """See one delivery of a job to its end, put it off, or put it back."""
        job_id = delivery.headers.get("ce-id") or f"s{delivery.sequence}"
        tenant = delivery.headers.get("ce-tenant") or delivery.subject.rpartition(".")[2]
        try:
            spec = decode_spec(delivery.data)
            check_ids(tenant, job_id)
            options = JobOptions.model_validate_json(delivery.headers.get(OPTIONS, "{}"))
            attempt = int(delivery.headers.get(ATTEMPT, "1"))
        except (ValidationError, ValueError) as error:
            await self._bury(delivery, f"This is not a job: {_faults(error)}")
            await delivery.ack()
            return
        if job_id in self._running:
            await delivery.nak(self._ack_wait)
            return
        running = self._running[job_id] = _Running()
        try:
            entry = fresh_job(spec, job=job_id, tenant=tenant, options=options, created_at=delivery.stored_at)
            await self._job_store.adopt(entry, spec, by=options.by)
            job = await self._begin(delivery, tenant, job_id, attempt)
            if job is not None:
                await self._try(delivery, spec, job, running)
        finally:
            del self._running[job_id]

    async def _begin(self, delivery: Delivery, tenant: str, job_id: str, attempt: int) -> Job | None:
        """The entry of the job, which runs now; None where there is nothing to do, or not yet."""
        replayed = REPLAYED in delivery.headers
        begun = False

        def begin(job: Job) -> Job:
            nonlocal begun
            started = started_job(job, attempt=attempt, replayed=replayed, sequence=delivery.sequence)
            begun = started is not None
            return started or job

        job = await self._job_store.update(tenant, job_id, begin, reopen=replayed, by=self._instance)
        if job.state.ended:
            await delivery.ack()
            return None
        if not begun:
            await (delivery.ack() if attempt <= job.attempt else delivery.nak(TOO_EARLY))
            return None
        if job.crashes > self._max_crashes:
            reason = f"Its worker died {job.crashes} times before it was done."
            with job_span(delivery, job) as span:
                failed(span, "worker_lost")
                await self._give_up(delivery, job, Problem(ProblemType.INTERNAL, reason))
            return None
        return job

    async def _try(self, delivery: Delivery, spec: JobSpec, job: Job, running: _Running) -> None:
        context = JobContext(
            job, spec, job_store=self._job_store, artifacts=self._artifacts, jetstream=self._bus.jetstream
        )
        if job.cancel_requested:  # the worker before was gone when the request came
            await self._end(delivery, context, JobState.CANCELLED)
            return
        if (remaining := context.remaining) is not None:
            running.scope.deadline = anyio.current_time() + remaining
        try:
            with observed(delivery, job), running.scope as scope:
                await self._authorizer.check(job, spec)
                await self._note_facts(context)
                async with context.writing_metrics(resumed=job.attempt > 1 or delivery.deliveries > 1):
                    await self._kinds[spec.kind].perform(context)
        except Problem as problem:
            if problem.kind in PASSING:
                await self._put_off(delivery, job, problem)
            else:
                await self._end(delivery, context, JobState.FAILED, problem)
        except Exception as error:
            log.exception("job %s failed", job.id)
            await self._put_off(delivery, job, Problem(ProblemType.INTERNAL, f"{type(error).__name__}: {error}"))
        else:
            if scope.cancelled_caught:
                await self._withdrawn(delivery, context, running)
            else:
                await self._end(delivery, context, JobState.SUCCEEDED)

    async def _note_facts(self, context: JobContext) -> None:
        facts = await self._facts.facts(context.job, context.spec) if self._facts else None
        if facts is not None:
            await context.report(lambda job: job.model_copy(update={"facts": facts}))

    async def _withdrawn(self, delivery: Delivery, context: JobContext, running: _Running) -> None:
        """The job was cancelled, or has met its deadline."""
        if not running.cancelled_at:
            detail = "The job did not end by its deadline."
            await self._end(delivery, context, JobState.FAILED, Problem(ProblemType.DEADLINE_EXCEEDED, detail))
            return
        await self._end(delivery, context, JobState.CANCELLED, by=running.by, reason=running.why)
        CANCEL_TIME.labels(context.job.kind).observe(time.time() - running.cancelled_at)

    async def give_back(self, job_id: str, tenant: str) -> None:
        """Note that a running job goes back to the queue unharmed: it is not its fault that the worker stops."""
        await self._job_store.update(tenant, job_id, lambda job: job.model_copy(update={"given_back": True}))

    async def _put_off(self, delivery: Delivery, job: Job, problem: Problem) -> None:
        policy = job.options.retry
        if job.attempt >= policy.limit:
            await self._give_up(delivery, job, problem)
            return
        attempt = job.attempt + 1
        delay = delay_before(attempt, policy)
        log.warning("job %s is tried again in %.1f s: %s", job.id, delay, problem)
        await schedule_retry(self._bus.jetstream, delivery, job, attempt=attempt, delay=delay)
        waiting = {"state": JobState.QUEUED, "error": problem.details}
        reason = f"tried again in {delay:.1f} s: {problem}"
        await self._job_store.update(
            job.tenant, job.id, lambda entry: entry.model_copy(update=waiting), by=self._instance, reason=reason
        )
        JOBS_ENDED.labels(job.kind, "retried").inc()
        await delivery.ack()

    async def _give_up(self, delivery: Delivery, job: Job, problem: Problem) -> None:
        await self._bury(delivery, str(problem))
        await self._finish(job, JobState.FAILED, {}, problem)
        await delivery.ack()

    async def _end(
        self,
        delivery: Delivery,
        context: JobContext,
        state: JobState,
        problem: Problem | None = None,
        *,
        by: str = "",
        reason: str = "",
    ) -> None:
        made = {"outputs": context.outputs, "artifacts": tuple(context.artifacts), **context.unshown()}
        await self._finish(context.job, state, made, problem, by=by, reason=reason)
        await delivery.ack()

    async def _finish(
        self,
        job: Job,
        state: JobState,
        made: Mapping[str, object],
        problem: Problem | None,
        *,
        by: str = "",
        reason: str = "",
    ) -> None:
        JOBS_ENDED.labels(job.kind, state.value).inc()
        end = {"state": state, "finished_at": time.time(), "error": problem.details if problem else None, **made}
        await self._job_store.update(
            job.tenant,
            job.id,
            lambda entry: entry.model_copy(update=end),
            by=by or self._instance,
            reason=reason or (str(problem) if problem else ""),
        )

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        await self._dead_letters.bury(
            delivery.subject,
            delivery.data,
            delivery.headers,
            reason=reason,
            deliveries=delivery.deliveries,
            message_id=f"job:{delivery.sequence}",
            traceback=traceback.format_exc() if sys.exception() else "",
        )


def started_job(job: Job, *, attempt: int, replayed: bool, sequence: int) -> Job | None:
    """The job as it is once this try has begun; None for a try that changes nothing.

    That is one which a later try has replaced, or which comes before the earlier one has ended. A message that was
    replayed from the dead letters always begins: as a new try, unless the job runs.
    """
    if not replayed and attempt != job.attempt + (job.state is JobState.QUEUED):
        return None
    running = job.state is JobState.RUNNING
    crashed = running and not job.given_back
    again = replayed and not running
    return job.model_copy(
        update={
            "state": JobState.RUNNING,
            "started_at": job.started_at or time.time(),
            "attempt": job.attempt + again if replayed else attempt,
            "crashes": 0 if again else job.crashes + crashed,
            "given_back": False,
            "revision": job.revision or sequence,
            "finished_at": None,
            "error": None,
        }
    )


def _withdraw(running: _Running, by: str, why: str) -> None:
    if not running.cancelled_at:
        running.cancelled_at, running.by, running.why = time.time(), by, why
        running.scope.cancel()


def _faults(error: ValueError) -> str:
    """What is wrong with a message, in a line: of what Pydantic found the places and its words, for people to read."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"]))) for each in found[:MOST_FAULTS]
    )
