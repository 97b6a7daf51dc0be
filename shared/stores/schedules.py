"""The schedules of all tenants: records in a bucket, and the broker's own timers that make them tick.

The timer of a schedule is a message on `timer.cron.<tenant>.<name>`; the broker publishes a tick on
`due.tick.<tenant>.<name>` whenever it is time. Publishing the timer again begins an interval anew, so that is done only
where the timing has changed.
"""

import time
from collections.abc import Callable
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import BadRequestError, InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.schedules.schedule import Schedule, check_schedule_name
from shared.nats.kv import snapshot
from shared.nats.subjects import SCHEDULES, TIMERS

__all__ = ["Schedules"]

TRIES: Final = 50


class Schedules:
    """Any number of processes may use it at once."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def get(self, tenant: str, name: str) -> Schedule:
        """Raises Problem NOT_FOUND."""
        return (await self._entry(tenant, name))[0]

    async def list(self, tenant: str) -> list[Schedule]:
        """All schedules by name."""
        found = [Schedule.model_validate_json(v) async for _, v in snapshot(await self._open(), f"{tenant}.>")]
        return sorted(found, key=lambda schedule: schedule.name)

    async def all(self) -> "tuple[Schedule, ...]":
        """The schedules of all tenants."""
        return tuple([Schedule.model_validate_json(v) async for _, v in snapshot(await self._open(), ">")])

    async def put(self, schedule: Schedule) -> tuple[Schedule, bool]:
        """Keep a schedule instead of the one of its name, whose history it goes on with, and let it tick.

        Returns it, and whether it is new. Raises Problem INVALID_REQUEST where the broker refuses its timing.
        """
        try:
            known: Schedule | None = await self.get(schedule.tenant, schedule.name)
        except Problem:
            known = None
        if known is None:
            await self._wind(schedule)
            made = schedule.model_copy(update={"next_at": _next(schedule)})
            try:
                await (await self._open()).create(_key(made.tenant, made.name), made.model_dump_json().encode())
            except KeyWrongLastSequenceError:
                return await self.put(schedule)
            return made, True
        ticks_alike = known.timing == schedule.timing and known.paused == schedule.paused
        if not ticks_alike:
            await self._wind(schedule)
        history = known.model_dump(include={"created_at", "last_at", "last_job", "skipped_at"})

        def replaced(old: Schedule) -> Schedule:
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
        await (await self._open()).delete(_key(tenant, name))
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
        for _ in range(TRIES):
            old, revision = await self._entry(tenant, name)
            new = change(old)
            if new == old:
                return old
            try:
                await (await self._open()).update(_key(tenant, name), new.model_dump_json().encode(), last=revision)
            except KeyWrongLastSequenceError:
                continue
            return new
        raise Problem(ProblemType.CONFLICT, f"The schedule '{name}' is being changed by others. Try again.")

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

    async def _entry(self, tenant: str, name: str) -> tuple[Schedule, int]:
        missing = Problem(ProblemType.NOT_FOUND, f"There is no schedule '{name[:80]}'.")
        try:
            check_schedule_name(name)
            entry = await (await self._open()).get(_key(tenant, name))
        except (KeyNotFoundError, InvalidKeyError, Problem):
            raise missing from None
        return Schedule.model_validate_json(entry.value or b""), entry.revision or 0

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(SCHEDULES)
        return self._bucket


def _next(schedule: Schedule) -> float | None:
    return None if schedule.paused else schedule.after(time.time())


def _key(tenant: str, name: str) -> str:
    return f"{tenant}.{name}"


def _timer(tenant: str, name: str) -> str:
    return f"timer.cron.{tenant}.{name}"
