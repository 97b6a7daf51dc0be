"""Cron expressions and intervals: what they mean, as the broker reads them, and when they tick next.

The broker keeps the time. This module says what is wrong with an expression, and computes the next tick as the broker
does: a tick that has not come by then was missed. cronsim finds the tick. Its language differs from the broker's (`L`,
`#` and 7 for Sunday, no `?`, and `*/2` counts as unrestricted), so it gets each field as a list of numbers.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

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
    """`text` has six fields. `values` are the numbers of each; None where the field is unrestricted (`*` or `?`).

    Where both days are restricted, one of them is enough.
    """

    text: str
    values: tuple[frozenset[int] | None, ...]

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
        values = tuple(_values(part, field) for part, field in zip(written, FIELDS, strict=True))
        cron = cls(text=" ".join(written), values=values)
        try:
            cron.after(datetime.now(UTC), UTC)
        except CronSimError:
            raise TimingError(f"{text.strip()!r} never comes") from None
        return cron

    def after(self, moment: datetime, zone: tzinfo) -> datetime:
        """The first tick after a moment, in UTC.

        A time that the clocks skip does not tick; one that comes twice ticks twice.
        """
        fields = ["*" if numbers is None else ",".join(map(str, sorted(numbers))) for numbers in self.values]
        for local in CronSim(" ".join(fields), moment.astimezone(zone)):
            tick = local.astimezone(UTC)
            if tick.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
                return tick
        raise AssertionError("a cron expression ticks within fifty years")


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


def _values(text: str, field: _Field) -> frozenset[int] | None:
    found: set[int] = set()
    unrestricted = False
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and (not NUMBER.fullmatch(step) or int(step) < 1):
            raise _wrong(part, field)
        low, high = _span(span, field, open_ended=bool(slash))
        if low > high:
            raise _wrong(part, field)
        every = int(step) if slash else 1
        found.update(range(low, high + 1, every))
        unrestricted |= span in ("*", "?") and every == 1
    return None if unrestricted else frozenset(found)


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
