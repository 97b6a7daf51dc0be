"""A schedule: a job that is submitted again and again."""

import re
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from pydantic import Field, model_validator

from shared.contracts.jobs import AnyJobSpec, JobOptions
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.schedules.cron import Cron, interval, time_zone
from shared.contracts.wire import Wire

__all__ = ["Missed", "Overlap", "Schedule", "Timing", "check_schedule_name"]

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Missed(StrEnum):
    """What to do about ticks that came while the scheduler or the broker was down: nothing, or run
    the job once for all of them."""

    SKIP = "skip"
    RUN_ONCE = "run_once"


class Overlap(StrEnum):
    """What to do about a tick while the job of the one before still runs."""

    ALLOW = "allow"
    SKIP = "skip"


class Timing(Wire):
    """When a schedule ticks: by `cron` in a `zone`, UTC without one, or `every` so often."""

    cron: str | None = None
    every: str | None = None
    zone: str | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError("say either cron or every")
        if self.zone is not None and self.cron is None:
            raise ValueError("a zone goes with cron: an interval is the same everywhere")
        return self

    def check(self) -> None:
        """Raises TimingError."""
        time_zone(self.zone)
        if self.cron is not None:
            Cron.parse(self.cron)
        else:
            interval(str(self.every))

    def after(self, moment: float) -> float:
        """The first tick after a moment, both in Unix seconds: of an interval, one that begins then."""
        if self.cron is None:
            return moment + interval(str(self.every))
        return Cron.parse(self.cron).after(datetime.fromtimestamp(moment, UTC), time_zone(self.zone)).timestamp()

    @property
    def headers(self) -> dict[str, str]:
        """The headers with which the broker ticks so."""
        if self.cron is None:
            return {"Nats-Schedule": f"@every {int(interval(str(self.every)))}s"}
        zone = {"Nats-Schedule-Time-Zone": self.zone} if self.zone else {}
        return {"Nats-Schedule": Cron.parse(self.cron).text, **zone}


class Schedule(Timing):
    """Times are Unix seconds. `options` go with each job, whose deadline is `timeout` seconds after its tick.

    `last_at` is the last tick that became a job, `last_job`; `skipped_at` the last one that did not. `next_at` is when
    the next one is to be expected, None while the schedule is paused.
    """

    name: str
    tenant: str
    spec: AnyJobSpec = Field(discriminator="kind")
    options: JobOptions = JobOptions()
    timeout: float | None = None
    missed: Missed = Missed.SKIP
    overlap: Overlap = Overlap.ALLOW
    paused: bool = False
    created_at: float
    last_at: float | None = None
    last_job: str | None = None
    skipped_at: float | None = None
    next_at: float | None = None

    @property
    def timing(self) -> Timing:
        return Timing(cron=self.cron, every=self.every, zone=self.zone)

    def job_options(self, *, by: str) -> JobOptions:
        """The options of a job that is submitted now."""
        deadline = None if self.timeout is None else time.time() + self.timeout
        return self.options.model_copy(update={"deadline": deadline, "by": by, "schedule": self.name})


def check_schedule_name(name: str) -> str:
    """Raises Problem INVALID_NAME."""
    if not NAME.fullmatch(name):
        raise Problem(
            ProblemType.INVALID_NAME,
            f"The schedule name {name[:80]!r} must have 1 to 40 of a-z, 0-9, '-' and '_', "
            "and start with a letter or digit.",
        )
    return name
