"""Schedules as the HTTP API takes and shows them."""

import time
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.auth.principal import Principal
from services.gateway.http.problems import invalid_member
from services.gateway.jobs.service import JobSettings, check_spec, shown_spec
from shared.contracts.jobs import AnyJobSpec, JobOptions
from shared.contracts.schedules import (
    Cron,
    Missed,
    Overlap,
    Schedule,
    TimingError,
    check_schedule_name,
    interval,
    time_zone,
)

__all__ = ["NewSchedule", "ScheduleBody", "ScheduleList", "schedule_from"]


class NewSchedule(JobSettings):
    """`timeout` counts from each tick."""

    spec: AnyJobSpec = Field(discriminator="kind", description="What each tick submits.")
    cron: str | None = Field(None, description="Five fields, or six with the second before them, or `@daily`.")
    every: str | None = Field(None, description="An interval instead: `90s`, `15m`, `1h30m`.")
    zone: str | None = Field(None, description="Time zone of `cron`, such as Europe/Berlin; UTC if null.")
    missed: Missed = Field(Missed.SKIP, description="What to do about ticks that came while all was down.")
    overlap: Overlap = Field(Overlap.ALLOW, description="What to do about a tick while the last job still runs.")
    paused: bool = False


class ScheduleBody(BaseModel):
    """Times are Unix seconds. `skipped_at` is the last tick that did not become a job; `next_at` is when the next one
    is to be expected."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    name: str
    cron: str | None
    every: str | None
    zone: str | None
    spec: AnyJobSpec
    options: JobOptions
    timeout: float | None
    missed: Missed
    overlap: Overlap
    paused: bool
    created_at: float
    last_at: float | None
    last_job: str | None
    skipped_at: float | None
    next_at: float | None

    @classmethod
    def of(cls, schedule: Schedule, principal: Principal) -> Self:
        """As the caller may see it."""
        return cls.model_validate(schedule.model_copy(update={"spec": shown_spec(principal, schedule.spec)}))


class ScheduleList(BaseModel):
    model_config = ConfigDict(frozen=True)

    schedules: list[ScheduleBody]


def schedule_from(principal: Principal, name: str, body: NewSchedule) -> Schedule:
    """Raises Problem FORBIDDEN, INVALID_NAME or INVALID_REQUEST, which names the member that is wrong."""
    check_schedule_name(name)
    check_spec(body.spec)
    principal.need_spec(body.spec)
    _check_timing(body)
    options = principal.options(body.options()).model_copy(update={"deadline": None})
    return Schedule(
        name=name,
        tenant=principal.tenant,
        cron=body.cron,
        every=body.every,
        zone=body.zone,
        spec=body.spec,
        options=options,
        timeout=body.timeout,
        missed=body.missed,
        overlap=body.overlap,
        paused=body.paused,
        created_at=time.time(),
    )


def _check_timing(body: NewSchedule) -> None:
    if (body.cron is None) == (body.every is None):
        raise invalid_member("cron", "say either cron or every")
    if body.zone is not None and body.cron is None:
        raise invalid_member("zone", "a zone goes with cron: an interval is the same everywhere")
    member = "zone"
    try:
        time_zone(body.zone)
        if body.cron is not None:
            member = "cron"
            Cron.parse(body.cron)
        else:
            member = "every"
            interval(str(body.every))
    except TimingError as error:
        raise invalid_member(member, str(error)) from None
