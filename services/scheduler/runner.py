"""Runs jobs: takes them off the queue, keeps their entries on the board true, and sees each to its end.

A job is delivered at least once and acknowledged after its effect; its kind makes sure that doing it again does no
harm. A problem of the job's own ends it; trouble that may pass puts it back on the queue.
"""

import logging
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from shared.dead_letters import REPLAYED, DeadLetters
from shared.job_board import JobBoard
from shared.jobs import DropSpec, Job, JobProgress, JobSpec, JobState, check_ids, decode_spec
from shared.problems import Problem, ProblemType
from shared.pull import Delivery
from shared.telemetry import extract_trace, tracer

__all__ = ["JobRun", "JobRunner", "Kind"]

log = logging.getLogger(__name__)

PASSING: Final = frozenset(
    {
        ProblemType.STAGE_UNAVAILABLE,
        ProblemType.STAGE_FAILED,
        ProblemType.BROKER_UNAVAILABLE,
        ProblemType.QUEUE_FULL,
        ProblemType.DEADLINE_EXCEEDED,
        ProblemType.INTERNAL,
    }
)
"""Problems that may be gone at the next try."""

JOBS_ENDED = Counter("sluice_jobs_total", "Jobs by how a delivery of them ended.", ("kind", "outcome"))
JOB_TIME = Histogram(
    "sluice_job_seconds", "Time of one try at a job.", ("kind",), buckets=(0.1, 0.5, 1, 5, 10, 60, 300, 1800, 7200)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One try at a job. `revision` orders the effects of jobs: the later submitted one has the greater."""

    job: Job
    spec: JobSpec
    revision: int
    board: JobBoard

    async def report(self, change: Callable[[Job], Job]) -> None:
        """Show progress on the board."""
        await self.board.update(self.job.tenant, self.job.id, change)


Kind = Callable[[JobRun], Awaitable[None]]
"""Does a job. Raises Problem when it cannot be done; anything else raised is tried again."""


class JobRunner:
    """Hand `handle` to a PullConsumer of the job queue."""

    def __init__(
        self,
        board: JobBoard,
        dead_letters: DeadLetters,
        kinds: Mapping[str, Kind],
        *,
        max_deliver: int,
        ack_wait: float,
    ) -> None:
        self._board = board
        self._dead_letters = dead_letters
        self._kinds = kinds
        self._max_deliver = max_deliver
        self._ack_wait = ack_wait
        self._running: set[str] = set()

    async def handle(self, delivery: Delivery) -> None:
        """See one delivery of a job to its end, or put it back."""
        job_id = delivery.headers.get("ce-id") or f"s{delivery.sequence}"
        tenant = delivery.headers.get("ce-tenant", "default")
        try:
            spec = decode_spec(delivery.data)
            check_ids(tenant, job_id)
        except ValueError as error:
            await self._bury(delivery, f"This is no job: {error}")
            await delivery.ack()
            return
        if job_id in self._running:
            await delivery.nak(self._ack_wait)
            return
        self._running.add(job_id)
        try:
            await self._try(delivery, spec, await self._adopt(delivery, spec, tenant, job_id))
        finally:
            self._running.discard(job_id)

    async def _adopt(self, delivery: Delivery, spec: JobSpec, tenant: str, job_id: str) -> Job:
        """The job's entry, made now if the job came straight from the bus."""
        documents = 0 if isinstance(spec, DropSpec) else len(spec.documents)
        entry = Job(
            id=job_id,
            kind=spec.kind,
            tenant=tenant,
            collection=spec.collection,
            created_at=delivery.stored_at,
            progress=JobProgress(documents=documents),
        )
        await self._board.adopt(entry)
        return await self._board.update(
            tenant,
            job_id,
            lambda job: job.model_copy(
                update={
                    "state": JobState.RUNNING,
                    "started_at": job.started_at or time.time(),
                    "attempt": delivery.deliveries,
                    "finished_at": None,
                    "error": None,
                }
            ),
            reopen=REPLAYED in delivery.headers,
        )

    async def _try(self, delivery: Delivery, spec: JobSpec, job: Job) -> None:
        if job.state.ended:
            await delivery.ack()
            return
        if delivery.deliveries > self._max_deliver:
            reason = f"Delivered {self._max_deliver} times; each worker died before it was done."
            await self._give_up(delivery, job, Problem(ProblemType.INTERNAL, reason))
            return
        run = JobRun(job=job, spec=spec, revision=delivery.sequence, board=self._board)
        context = extract_trace(delivery.headers)
        try:
            with (
                tracer.start_as_current_span(f"process job.{spec.kind}", context=context, kind=SpanKind.CONSUMER),
                JOB_TIME.labels(spec.kind).time(),
            ):
                await self._kinds[spec.kind](run)
        except Problem as problem:
            if problem.kind in PASSING:
                await self._put_back(delivery, job, problem)
            else:
                await self._end(job, JobState.FAILED, problem)
                await delivery.ack()
        except Exception as error:
            log.exception("job %s failed", job.id)
            await self._put_back(delivery, job, Problem(ProblemType.INTERNAL, f"{type(error).__name__}: {error}"))
        else:
            await self._end(job, JobState.SUCCEEDED)
            await delivery.ack()

    async def _put_back(self, delivery: Delivery, job: Job, problem: Problem) -> None:
        if delivery.deliveries >= self._max_deliver:
            await self._give_up(delivery, job, problem)
            return
        delay = min(60.0, 0.5 * 2**delivery.deliveries)
        log.warning("job %s is tried again in %.1f s: %s", job.id, delay, problem)
        JOBS_ENDED.labels(job.kind, "retried").inc()
        await delivery.nak(delay)

    async def _give_up(self, delivery: Delivery, job: Job, problem: Problem) -> None:
        await self._bury(delivery, str(problem))
        await self._end(job, JobState.FAILED, problem)
        await delivery.ack()

    async def _end(self, job: Job, state: JobState, problem: Problem | None = None) -> None:
        JOBS_ENDED.labels(job.kind, state.value).inc()
        end = {"state": state, "finished_at": time.time(), "error": problem.details if problem else None}
        await self._board.update(job.tenant, job.id, lambda entry: entry.model_copy(update=end))

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
