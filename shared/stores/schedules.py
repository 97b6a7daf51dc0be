"""The schedules of all tenants: records in a bucket, and the broker's own timers that make them tick.

The timer of a schedule is a message on `timer.cron.<tenant>.<name>`; the broker publishes a tick on
`due.tick.<tenant>.<name>` whenever it is time. Publishing the timer again begins an interval anew, so that is done only
where the timing has changed.
"""

import time
from collections.abc import Callable

from nats.js import JetStreamContext
from nats.js.errors import BadRequestError

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.schedules.schedule import Schedule, check_schedule_name
from shared.nats.kv import Repository
from shared.nats.subjects import SCHEDULES, TIMERS

__all__ = ["Schedules"]


class Schedules:
    """Any number of processes may use it at once."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._records = Repository(jetstream, SCHEDULES, Schedule.model_validate_json, noun="schedule")

    async def get(self, tenant: str, name: str) -> Schedule:
        """Raises Problem NOT_FOUND."""
        try:
            check_schedule_name(name)
        except Problem:
            raise _missing(name) from None
        schedule = await self._records.get(_key(tenant, name))
        if schedule is None:
            raise _missing(name)
        return schedule

    async def list(self, tenant: str) -> list[Schedule]:
        """All schedules by name."""
        return sorted(await self._records.list(f"{tenant}.>"), key=lambda schedule: schedule.name)

    async def all(self) -> "tuple[Schedule, ...]":
        """The schedules of all tenants."""
        return tuple(await self._records.list())

    async def put(
        self, schedule: Schedule, *, allow: Callable[[Schedule], None] = lambda _: None
    ) -> tuple[Schedule, bool]:
        """Keep a schedule instead of the one of its name, whose history it goes on with, and let it tick.

        Returns it, and whether it is new. `allow` raises where the one that is there must not be replaced. Raises
        Problem INVALID_REQUEST where the broker refuses its timing.
        """
        try:
            known: Schedule | None = await self.get(schedule.tenant, schedule.name)
        except Problem:
            known = None
        if known is None:
            await self._wind(schedule)
            made = schedule.model_copy(update={"next_at": _next(schedule)})
            if await self._records.put(_key(made.tenant, made.name), made, revision=0) is None:
                return await self.put(schedule, allow=allow)
            return made, True
        allow(known)
        ticks_alike = known.timing == schedule.timing and known.paused == schedule.paused
        if not ticks_alike:
            await self._wind(schedule)
        history = known.model_dump(include={"created_at", "last_at", "last_job", "skipped_at"})

        def replaced(old: Schedule) -> Schedule:
            allow(old)
            next_at = old.next_at if ticks_alike else _next(schedule)
            return schedule.model_copy(update={**history, "next_at": next_at})

        return await self.change(schedule.tenant, schedule.name, replaced), False

    async def pause(self, tenant: str, name: str) -> Schedule:
        """Raises Problem NOT_FOUND."""
        paused = await self.change(tenant, name, lambda old: old.model_copy(update={"paused": True, "next_at": None}))
        await self._wind(paused)
        return paused

    async def resume(self, tenant: str, name: str) -> Schedule:
        """Go on with the next tick; an interval begins anew. Raises Problem NOT_FOUND."""
        schedule = await self.get(tenant, name)
        if not schedule.paused:
            return schedule
        await self._wind(schedule.model_copy(update={"paused": False}))

        def resumed(old: Schedule) -> Schedule:
            going = old.model_copy(update={"paused": False})
            return going.model_copy(update={"next_at": _next(going)})

        return await self.change(tenant, name, resumed)

    async def delete(self, tenant: str, name: str) -> None:
        """Raises Problem NOT_FOUND."""
        await self.get(tenant, name)
        await self._records.delete(_key(tenant, name))
        await self.stop(tenant, name)

    async def stop(self, tenant: str, name: str) -> None:
        """Take a timer away. One that is not there is no error."""
        await self._js.purge_stream(TIMERS, subject=_timer(tenant, name))

    async def repair(self, schedule: Schedule) -> None:
        """Set the timer of a schedule that ticks, where there is none."""
        timer = _timer(schedule.tenant, schedule.name)
        if not schedule.paused:
            info = await self._js.stream_info(TIMERS, subjects_filter=timer)
            if not info.state.subjects:
                await self._wind(schedule)

    async def change(self, tenant: str, name: str, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Change a record, whoever else does. `change` may be called several times. Raises Problem NOT_FOUND."""
        after = await self._records.update(_key(tenant, name), change)
        if after is None:
            raise _missing(name)
        return after

    async def _wind(self, schedule: Schedule) -> None:
        """Let the broker tick as the schedule says."""
        timer = _timer(schedule.tenant, schedule.name)
        if schedule.paused:
            await self.stop(schedule.tenant, schedule.name)
            return
        headers = schedule.headers | {"Nats-Schedule-Target": f"due.tick.{schedule.tenant}.{schedule.name}"}
        try:
            await self._js.publish(timer, b"", headers=headers, stream=TIMERS)
        except BadRequestError as error:
            detail = f"The broker refuses this timing: {error.description}."
            raise Problem(ProblemType.INVALID_REQUEST, detail) from None


def _missing(name: str) -> Problem:
    return Problem(ProblemType.NOT_FOUND, f"There is no schedule '{name[:80]}'.")


def _next(schedule: Schedule) -> float | None:
    return None if schedule.paused else schedule.after(time.time())


def _key(tenant: str, name: str) -> str:
    return f"{tenant}.{name}"


def _timer(tenant: str, name: str) -> str:
    return f"timer.cron.{tenant}.{name}"
