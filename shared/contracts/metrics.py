"""Metrics of a job by step, and the file in which the job keeps them.

The file has a line of JSON per step: {"step": 3, "at": 1700000000.5, "loss": 0.25}. `at` is the Unix time at which the
step was logged, and null in place of a value says that it was not finite.
"""

import bisect
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["METRICS_FILE", "MOST_METRICS", "MOST_POINTS", "MetricHistory", "MetricPoint"]

METRICS_FILE: Final = "metrics.jsonl"
"""The job's artifact."""

MOST_METRICS: Final = 64
MOST_POINTS: Final = 2_000
"""Points of one metric that are kept; of more, every other one goes until they are fewer."""

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,63}")
RESERVED: Final = frozenset({"step", "at"})
LAST_STEP: Final = 2**53


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of a metric; None where it was not finite."""

    step: int
    at: float
    value: float | None


class _Series:
    """The points of one metric by step. All have the same share of the steps, but for the last point, which is always
    there."""

    __slots__ = ("_added", "_passing", "_stride", "points")

    def __init__(self) -> None:
        self.points: list[MetricPoint] = []
        self._stride = 1
        self._added = 0
        self._passing = False
        """Whether the last point goes when the next one comes."""

    def add(self, point: MetricPoint) -> None:
        if self.points and point.step <= self.points[-1].step:
            self._insert(point)
            return
        if self._passing:
            self.points.pop()
        self.points.append(point)
        self._passing = self._added % self._stride != 0
        self._added += 1
        self._thin()

    def _insert(self, point: MetricPoint) -> None:
        """A step that comes late, or once more."""
        place = bisect.bisect_left(self.points, point.step, key=_step)
        if self.points[place].step == point.step:
            self.points[place] = point
        else:
            self.points.insert(place, point)
            self._thin()

    def _thin(self) -> None:
        if len(self.points) <= MOST_POINTS:
            return
        last = self.points[-1]
        self.points = self.points[: -1 if self._passing else None : 2]
        self._stride *= 2
        self._passing = self.points[-1] is not last
        if self._passing:
            self.points.append(last)


class MetricHistory:
    """At most `MOST_METRICS` metrics with at most `MOST_POINTS` points each."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def __bool__(self) -> bool:
        return bool(self._series)

    def add(self, step: int, at: float, values: Mapping[str, float | None]) -> None:
        """Add values of one step; a value that is there already is replaced. Raises ValueError for a step below 0, a
        name that is not a metric's, and one metric too many."""
        if not 0 <= step < LAST_STEP:
            raise ValueError(f"a step is from 0 to 2^53, not {step}")
        for name in values:
            if name not in self._series:
                self._check(name)
                self._series[name] = _Series()
        for name, value in values.items():
            finite = value is not None and math.isfinite(value)
            self._series[name].add(MetricPoint(step, at, float(value) if finite and value is not None else None))

    def _check(self, name: str) -> None:
        if name in RESERVED or NAME.fullmatch(name) is None:
            raise ValueError(
                "a metric's name is a letter and up to 63 letters, digits, '_', '.', '/' and '-', neither 'step' nor "
                f"'at', not {name[:80]!r}"
            )
        if len(self._series) >= MOST_METRICS:
            raise ValueError(f"a job logs at most {MOST_METRICS} metrics, and {name!r} would be one more")

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they were first logged."""
        return tuple(self._series)

    def points(self, name: str) -> Sequence[MetricPoint]:
        """By step; empty for a metric that was not logged."""
        series = self._series.get(name)
        return series.points if series else ()

    def after(self, earlier: "MetricHistory") -> "MetricHistory":
        """This history as it goes on from one that broke off: of each metric the earlier points come first, up to the
        step with which this one begins it."""
        joined = MetricHistory()
        for name in dict.fromkeys([*earlier.names, *self.names]):
            if name not in joined._series and len(joined._series) == MOST_METRICS:
                continue
            series = joined._series[name] = _Series()
            own = self.points(name)
            for point in earlier.points(name):
                if not own or point.step < own[0].step:
                    series.add(point)
            for point in own:
                series.add(point)
        return joined

    def encode(self) -> bytes:
        """The file, by step."""
        steps: defaultdict[int, dict[str, float | None]] = defaultdict(dict)
        for name, series in self._series.items():
            for point in series.points:
                line = steps[point.step]
                line["at"] = max(line.get("at") or 0.0, round(point.at, 3))
                line[name] = point.value
        lines = (json.dumps({"step": step, **steps[step]}, separators=(",", ":")) for step in sorted(steps))
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def decode(cls, data: bytes) -> "MetricHistory":
        """A file as far as it is one: lines that are none, and what they have of no use, are left out."""
        history = cls()
        for step, at, values in _lines(data.splitlines()):
            try:
                history.add(step, at, values)
            except ValueError:
                continue
        return history


def _lines(lines: Iterable[bytes]) -> Iterator[tuple[int, float, dict[str, float | None]]]:
    for line in lines:
        try:
            members = json.loads(line)
        except ValueError:
            continue
        if isinstance(members, dict) and type(members.get("step")) is int:
            at = members.get("at")
            values = {name: value for name, value in members.items() if name not in RESERVED and _is_value(value)}
            yield members["step"], float(at) if isinstance(at, int | float) else 0.0, values


def _is_value(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _step(point: MetricPoint) -> int:
    return point.step
