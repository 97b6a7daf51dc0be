"""Ticks of schedules become jobs.

A tick's job has an id that follows from the schedule and the tick's time, so a tick that is delivered again, or seen
by several schedulers, is one job.
"""

import hashlib
import logging
import time
from datetime import datetime
from typing import Final

from nats.js.errors import APIError

from services.scheduler.jobs.telemetry import TICK_LATENESS, TICKS
from shared.contracts.jobs import Job
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.schedules import Missed, Overlap, Schedule
from shared.runtime.delivery import Delivery
from shared.service.bus import Bus
from shared.stores.jobs.store import JobStore
from shared.stores.schedules import Schedules
from shared.telemetry.messaging import TENANT
from shared.telemetry.tracing import tracer

__all__ = ["Ticker", "tick_job"]

log = logging.getLogger(__name__)

LATE: Final = 60.0
"""Seconds after which a tick that no process received counts as missed."""

READABLE: Final = 18
"""Characters of a schedule's name in the id of a job, which has at most 64."""

NEXT: Final = "Nats-Schedule-Next"


class Ticker:
    """Hand `tick` to what takes what is due, and call `catch_up` at the start and after each reconnection."""

    def __init__(self, bus: Bus, job_store: JobStore) -> None:
        self._job_store = job_store
        self._schedules = Schedules(bus.jetstream)

    async def tick(self, delivery: Delivery) -> None:
        """Submit the job of a tick. Raises what may pass."""
        _, _, tenant, name = delivery.subject.split(".")
        try:
            schedule = await self._schedules.get(tenant, name)
        except Problem:
            log.warning("a tick of a schedule that is not there: %s", name)
            await self._schedules.stop(tenant, name)
            return
        if schedule.paused:
            return
        if time.time() - delivery.stored_at > LATE:
            await self._make_up(schedule)
            return
        at = round(delivery.stored_at)
        following = _moment(delivery.headers.get(NEXT, "")) or schedule.after(at)
        await self._run(schedule, at=at, next_at=following)

    async def catch_up(self) -> None:
        """Do for every schedule what its policy says about ticks that it has missed, and mend lost timers."""
        for schedule in await self._schedules.all():
            try:
                await self._schedules.repair(schedule)
                await self._make_up(schedule)
            except (Problem, APIError) as error:
                log.warning("cannot catch up with the schedule %s: %s", schedule.name, error)

    async def _make_up(self, schedule: Schedule) -> None:
        """Run once, or not at all, for every tick since the first that was missed."""
        now = time.time()
        missed = schedule.next_at
        if schedule.paused or missed is None or now - missed <= LATE:
            return
        following = schedule.after(now)
        if schedule.missed is Missed.RUN_ONCE:
            await self._run(schedule, at=round(missed), next_at=following)
            return
        TICKS.labels("missed").inc()
        log.info("schedule %s has missed its tick of %s", schedule.name, datetime.fromtimestamp(missed).astimezone())
        await self._note(schedule, {"skipped_at": missed, "next_at": following})

    async def _run(self, schedule: Schedule, *, at: int, next_at: float | None) -> None:
        job = tick_job(schedule.tenant, schedule.name, at)
        if schedule.overlap is Overlap.SKIP and await self._still_runs(schedule, job):
            TICKS.labels("skipped").inc()
            await self._note(schedule, {"skipped_at": float(at), "next_at": next_at})
            return
        options = schedule.job_options(by=f"schedule {schedule.name}")
        attributes = {"sluice.schedule": schedule.name, TENANT: schedule.tenant}
        with tracer.start_as_current_span("tick schedule", attributes=attributes):
            _, new = await self._job_store.submit(schedule.spec, job=job, tenant=schedule.tenant, options=options)
        if new:
            TICKS.labels("run").inc()
            TICK_LATENESS.observe(max(0.0, time.time() - at))
        await self._note(schedule, {"last_at": float(at), "last_job": job, "next_at": next_at})

    async def _still_runs(self, schedule: Schedule, job: str) -> bool:
        if schedule.last_job in (None, job):
            return False
        try:
            last: Job = await self._job_store.get(schedule.tenant, str(schedule.last_job))
        except Problem:
            return False
        return not last.state.ended

    async def _note(self, schedule: Schedule, members: dict[str, float | str | None]) -> None:
        """Write down what became of a tick, unless a later one is written down already."""

        def noted(old: Schedule) -> Schedule:
            at = members.get("last_at") or members.get("skipped_at") or 0.0
            if isinstance(at, float) and at < max(old.last_at or 0.0, old.skipped_at or 0.0):
                return old
            return old.model_copy(update=members if not old.paused else members | {"next_at": None})

        try:
            await self._schedules.change(schedule.tenant, schedule.name, noted)
        except Problem as problem:
            if problem.kind is not ProblemType.NOT_FOUND:
                raise


def tick_job(tenant: str, schedule: str, at: int) -> str:
    """The id of the job of the tick at this Unix time: the ids of jobs are unique over all tenants, and 128 bits keep
    anybody from making one that is another tenant's."""
    digest = hashlib.sha256(f"{tenant}\n{schedule}".encode()).hexdigest()[:32]
    return f"s-{schedule[:READABLE]}-{at}-{digest}"


def _moment(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
