"""Charts of experiment runs as SVG: metrics by step, parallel coordinates, and bars.

The colors are classes of the page, so that a chart is legible on light and on dark paper.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from sluice.api.runs import MetricSeries

__all__ = ["COLORS", "Axis", "bars", "lines", "parallel_coordinates", "run_class"]

COLORS: Final = 8
"""Colors of runs; further runs take them again, with other dashes."""

LINE_WIDTH, LINE_HEIGHT = 460, 250
WIDE: Final = 960
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 14, 30
BAR_ROW, BAR_NAME, BAR_VALUE = 18, 150, 90
COORDINATES_HEIGHT: Final = 300
TICKS: Final = 4
MOST_TEXT: Final = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of parallel coordinates with a value of each run: numbers, or texts that are spread in their order."""

    name: str
    values: Sequence[float | str | None]


def run_class(index: int) -> str:
    """The classes of what belongs to a run."""
    return f"run{index % COLORS} dash{index // COLORS % 3}"


def lines(name: str, series: Sequence[tuple[int, MetricSeries]]) -> str:
    """A metric by step, of each run that has logged it: runs by their numbers. A value that is not finite is a gap."""
    points = [
        (run, [(s, v) for s, v in zip(one.steps, one.values, strict=True) if v is not None]) for run, one in series
    ]
    known = [point for _, found in points for point in found]
    if not known:
        return ""
    across = _Scale.of([step for step, _ in known], LEFT, LINE_WIDTH - RIGHT, whole=True)
    up = _Scale.of([value for _, value in known], LINE_HEIGHT - BOTTOM, TOP)
    parts = [_head(LINE_WIDTH, LINE_HEIGHT, f"{name} by step")]
    for tick in up.ticks:
        y = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LINE_WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, _written(tick), "end"))
    parts.extend(_text(across(tick), LINE_HEIGHT - 10, _written(tick), "middle") for tick in across.ticks)
    for (run, one), (_, found) in zip(series, points, strict=True):
        parts.extend(
            f'<polyline class="line {run_class(run)}" points="{_points(piece, across, up)}"/>' for piece in _pieces(one)
        )
        if found:
            step, value = found[-1]
            parts.append(
                f'<circle class="dot {run_class(run)}" cx="{across(step):.1f}" cy="{up(value):.1f}" r="3.5">'
                f"<title>{escape(_written(value))} at step {step:,}</title></circle>"
            )
    return "".join([*parts, "</svg>"])


def bars(values: Sequence[float | None], names: Sequence[str], title: str) -> str:
    """A bar a run for one metric, from zero."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = min(0.0, *known), max(0.0, *known)
    room = LINE_WIDTH - BAR_NAME - BAR_VALUE
    height = BAR_ROW * len(values) + 8
    parts = [_head(LINE_WIDTH, height, title)]

    def place(value: float) -> float:
        return BAR_NAME + ((value - low) / (high - low) * room if high > low else 0.0)

    for row, (value, name) in enumerate(zip(values, names, strict=True)):
        middle = row * BAR_ROW + 4 + BAR_ROW / 2
        parts.append(_text(BAR_NAME - 8, middle + 4, name, "end"))
        if value is None:
            parts.append(_text(BAR_NAME + 4, middle + 4, "none", "start"))
            continue
        left, right = sorted((place(0.0), place(value)))
        parts.append(
            f'<rect class="bar {run_class(row)}" x="{left:.1f}" y="{middle - 6:.1f}" '
            f'width="{max(1.0, right - left):.1f}" height="12" rx="2"/>'
        )
        parts.append(_text(LINE_WIDTH - 4, middle + 4, _written(value), "end"))
    return "".join([*parts, "</svg>"])


def parallel_coordinates(axes: Sequence[Axis], runs: int) -> str:
    """A line a run through its values on all axes; it is broken where a run has none."""
    step = (WIDE - 2 * 70) / max(1, len(axes) - 1)
    parts = [_head(WIDE, COORDINATES_HEIGHT, "Parameters and metrics of each run")]
    places: list[list[float | None]] = []
    for number, axis in enumerate(axes):
        x = 70 + number * step
        found, labels = _axis_places(axis)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="34" y2="{COORDINATES_HEIGHT - 30}"/>')
        parts.append(_text(x, 16, _cut(axis.name), "middle", strong=True))
        parts.extend(labels(x))
        places.append(found)
    for run in range(runs):
        for piece in _without_gaps([places[number][run] for number in range(len(axes))]):
            drawn = " ".join(f"{70 + number * step:.1f},{y:.1f}" for number, y in piece)
            parts.insert(1, f'<polyline class="line {run_class(run)}" points="{drawn}"/>')
            parts.extend(
                f'<circle class="dot {run_class(run)}" cx="{70 + number * step:.1f}" cy="{y:.1f}" r="3.5"/>'
                for number, y in piece
            )
    return "".join([*parts, "</svg>"])


class _Scale:
    """From values to places on an axis."""

    def __init__(self, low: float, high: float, start: float, end: float, ticks: Sequence[float]) -> None:
        self._low, self._high, self._start, self._end = low, high, start, end
        self.ticks = ticks

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, *, whole: bool = False) -> "_Scale":
        """An axis that reaches over the values; one of a single value has it in the middle."""
        low, high = min(values), max(values)
        if low == high:
            margin = abs(low) * 0.1 or 1.0
            return cls(low - margin, high + margin, start, end, [low])
        size = _tick_size((high - low) / TICKS, whole=whole)
        first = math.ceil(low / size - 1e-9)
        ticks = [n * size for n in range(first, math.floor(high / size + 1e-9) + 1)]
        margin = 0.0 if whole else (high - low) * 0.05
        return cls(low - margin, high + margin, start, end, ticks)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) / (self._high - self._low) * (self._end - self._start)


def _tick_size(wanted: float, *, whole: bool) -> float:
    """1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(wanted))
    size = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * 0.999)
    return max(1.0, size) if whole else size


def _axis_places(axis: Axis) -> tuple[list[float | None], Callable[[float], list[str]]]:
    """Where each run's value is on an axis, and the axis's labels."""
    bottom, top = COORDINATES_HEIGHT - 44, 50
    numbers = [value for value in axis.values if isinstance(value, int | float)]
    if len(numbers) == sum(value is not None for value in axis.values) and numbers:
        scale = _Scale.of(numbers, bottom, top)
        places = [scale(value) if isinstance(value, int | float) else None for value in axis.values]
        ends = {min(numbers): 18.0, max(numbers): -10.0}
        return places, lambda x: [
            _text(x, scale(value) + below, _written(value), "middle", halo=True) for value, below in ends.items()
        ]
    texts = sorted({str(value) for value in axis.values if value is not None})
    gap = (bottom - top) / (len(texts) + 1)
    at = {text: bottom - (number + 1) * gap for number, text in enumerate(texts)}
    return [None if value is None else at[str(value)] for value in axis.values], lambda x: [
        _text(x + 8, y + 4, _cut(text), "start", halo=True) for text, y in at.items()
    ]


def _pieces(series: MetricSeries) -> Iterator[list[tuple[float, float]]]:
    piece: list[tuple[float, float]] = []
    for step, value in zip(series.steps, series.values, strict=True):
        if value is None:
            yield piece
            piece = []
        else:
            piece.append((step, value))
    yield piece


def _without_gaps(places: Iterable[float | None]) -> Iterator[list[tuple[int, float]]]:
    piece: list[tuple[int, float]] = []
    for number, place in enumerate(places):
        if place is None:
            yield piece
            piece = []
        else:
            piece.append((number, place))
    yield piece


def _points(piece: Sequence[tuple[float, float]], across: _Scale, up: _Scale) -> str:
    return " ".join(f"{across(step):.1f},{up(value):.1f}" for step, value in piece)


def _written(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def _head(width: float, height: float, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(label)}">'
    )


def _text(x: float, y: float, text: str, anchor: str, *, strong: bool = False, halo: bool = False) -> str:
    kind = " ".join(filter(None, ("strong" if strong else "", "halo" if halo else "")))
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
