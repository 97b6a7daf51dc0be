"""Cron expressions and intervals: what they mean, as the broker reads them, and when they tick next.

The broker keeps the time. What is here says clearly what is wrong with an expression, and when its next tick is to be
expected: a tick that has not come by then was missed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["Cron", "TimingError", "interval", "time_zone"]

MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SHORTCUTS: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
HORIZON: Final = 366 * 5
"""Days within which an expression must tick: the broker refuses those that do not."""

NUMBER: Final = re.compile(r"[0-9]{1,9}")

UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0}


class TimingError(Exception):
    """What is wrong with an expression, an interval or a time zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


FIELDS: Final = (
    _Field(name="second", low=0, high=59),
    _Field(name="minute", low=0, high=59),
    _Field(name="hour", low=0, high=23),
    _Field(name="day of month", low=1, high=31),
    _Field(name="month", low=1, high=12, names=MONTHS),
    _Field(name="day of week", low=0, high=6, names=DAYS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """`text` has six fields. Where both days are restricted, one of them is enough."""

    text: str
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """From six fields, or five without the seconds, or a shortcut such as `@daily`. Raises TimingError."""
        written = SHORTCUTS.get(text.strip().lower(), text).split()
        if len(written) == 5:
            written.insert(0, "0")
        if len(written) != 6:
            raise TimingError(
                "a cron expression has five fields (minute, hour, day of month, month, day of week), "
                f"or six with the second before them; {text.strip()[:80]!r} has {len(text.split())}"
            )
        values = [_values(part, field) for part, field in zip(written, FIELDS, strict=True)]
        cron = cls(
            text=" ".join(written),
            seconds=values[0],
            minutes=values[1],
            hours=values[2],
            days=values[3],
            months=values[4],
            weekdays=values[5],
            any_day=written[3][0] in "*?",
            any_weekday=written[5][0] in "*?",
        )
        if cron.after(datetime.now(UTC), UTC) is None:
            raise TimingError(f"{text.strip()!r} never comes")
        return cron

    def after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first tick after a moment, in UTC; None where there is none within five years.

        A time that the clocks skip does not tick; of one that comes twice the first does.
        """
        start = moment.astimezone(zone).date()
        for day in (start + timedelta(days=number) for number in range(HORIZON)):
            if not self._on(day):
                continue
            for at in self._times():
                local = datetime.combine(day, at, zone)
                tick = local.astimezone(UTC)
                if tick > moment and tick.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
                    return tick
        return None

    def _on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month and in_week if self.any_day or self.any_weekday else in_month or in_week

    def _times(self) -> Iterator[time]:
        return (
            time(hour, minute, second)
            for hour in sorted(self.hours)
            for minute in sorted(self.minutes)
            for second in sorted(self.seconds)
        )


def interval(text: str) -> float:
    """The seconds of an interval such as `90s`, `15m` or `1h30m`. Raises TimingError."""
    parts = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", text.strip(), re.ASCII)
    seconds = sum(int(n or 0) * size for n, size in zip(parts.groups(), UNITS.values(), strict=True)) if parts else 0.0
    if not 1 <= seconds <= 366 * 86400:
        raise TimingError(f"an interval is written 90s, 15m or 1h30m and is at least a second long, not {text[:40]!r}")
    return seconds


def time_zone(name: str | None) -> tzinfo:
    """A zone by its name in the IANA database; UTC without one. Raises TimingError."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise TimingError(f"there is no time zone {name[:40]!r}; write one such as Europe/Berlin") from None


def _values(text: str, field: _Field) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and (not NUMBER.fullmatch(step) or int(step) < 1):
            raise _wrong(part, field)
        low, high = _span(span, field, open_ended=bool(slash))
        if low > high:
            raise _wrong(part, field)
        found.update(range(low, high + 1, int(step) if slash else 1))
    return frozenset(found)


def _span(text: str, field: _Field, *, open_ended: bool) -> tuple[int, int]:
    if text in ("*", "?"):
        return field.low, field.high
    low, dash, high = text.partition("-")
    first = _value(low, field)
    if dash:
        return first, _value(high, field)
    return first, field.high if open_ended else first


def _value(text: str, field: _Field) -> int:
    if text.lower() in field.names:
        return field.names.index(text.lower()) + field.low
    if not NUMBER.fullmatch(text) or not field.low <= int(text) <= field.high:
        raise _wrong(text, field)
    return int(text)


def _wrong(text: str, field: _Field) -> TimingError:
    names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    span = f"{field.low} to {field.high}{names}"
    return TimingError(f"{text[:40]!r} is no {field.name}: write {span}, *, a-b, a,b or */n")
