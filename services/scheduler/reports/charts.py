"""Charts of a search as SVG. Their colors are classes of the page, so that they are legible on light and dark paper.

A chart is drawn as wide as a phone's page, so that its letters stay readable there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from services.scheduler.reports.importance import Importance

__all__ = ["Dimension", "Line", "history", "importance_bars", "lines", "scatter"]

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 30
LEAST_SPAN: Final = 0.02
"""Of a score, so that trials that are all alike look so."""

BAR_ROW, BAR_LEFT = 44, 8
SMALL_WIDTH, SMALL_HEIGHT, SMALL_LEFT = 300, 200, 52
MOST_LETTERS: Final = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """What trials have of an option: numbers, on a logarithmic scale where `is_log`, or among the names `choices`. None
    where a trial does not set it."""

    option: str
    values: Sequence[float | str | None]
    choices: Sequence[str] = ()
    is_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Values by step; the gaps where a value is not finite are left out."""

    name: str
    points: Sequence[tuple[int, float]]


def history(scores: Sequence[float | None], name: str, *, minimizes: bool = False) -> str:
    """A dot a trial in their order, and a line of the best so far; a trial without a score has no dot. `name` is what
    scores are called. Needs one score."""
    better = min if minimizes else max
    known = [(number, score) for number, score in enumerate(scores, 1) if score is not None]
    up = _Up([score for _, score in known])
    step = (WIDTH - LEFT - RIGHT) / max(1, len(scores) - 1)

    def across(number: int) -> float:
        return LEFT + (number - 1) * step

    leading: list[tuple[int, float]] = []
    for number, score in known:
        before = leading[-1][1] if leading else score
        leading += [(number, before), (number, better(before, score))]
    leading.append((len(scores), leading[-1][1]))
    best = better(score for _, score in known)
    said = f"{name} of {len(scores):,} trials; the best has {_written(best)}, the first {_written(known[0][1])}"
    return "\n".join(
        [
            head(WIDTH, HEIGHT, said),
            *up.grid(),
            text(LEFT, HEIGHT - 10, "1", "middle"),
            text(WIDTH - RIGHT, HEIGHT - 10, f"trial {len(scores):,}", "end"),
            f'<polyline class="line" points="{" ".join(f"{across(n):.1f},{up(s):.1f}" for n, s in leading)}"/>',
            *(
                f'<circle class="dot" cx="{across(number):.1f}" cy="{up(score):.1f}" r="3.5">'
                f"<title>trial {number:,}: {_written(score)}</title></circle>"
                for number, score in known
            ),
            "</svg>",
        ]
    )


def importance_bars(found: Sequence[Importance], trials: int, *, most: float) -> str:
    """A bar an option, and a mark at what chance gives; `trials` are all of the search, and `most` times chance is the
    whole width. Needs one option."""
    room = WIDTH - BAR_LEFT - RIGHT
    said = "; ".join(f"{one.option} {one.times_chance:.1f} times what chance gives" for one in found)
    parts = [head(WIDTH, BAR_ROW * len(found) + 8, f"Importance of options: {said}")]
    mark = BAR_LEFT + room / most
    for row, one in enumerate(found):
        y = row * BAR_ROW + 6
        among = "" if one.trials == trials else f", {one.trials:,} of {trials:,} trials"
        kind = "bar" if one.is_beyond_chance else "bar chance"
        wide = one.times_chance / most * room
        parts += [
            text(BAR_LEFT, y + 12, f"{one.option}{among}", strong=one.is_beyond_chance),
            text(WIDTH - RIGHT, y + 12, f"{one.times_chance:.1f} times", "end"),
            f'<rect class="track" x="{BAR_LEFT}" y="{y + 19}" width="{room}" height="12" rx="3"/>',
            f'<rect class="{kind}" x="{BAR_LEFT}" y="{y + 19}" width="{wide:.1f}" height="12" rx="3"/>',
            f'<line class="mark" x1="{mark:.1f}" x2="{mark:.1f}" y1="{y + 16}" y2="{y + 34}"/>',
        ]
    return "\n".join([*parts, "</svg>"])


def scatter(dimension: Dimension, scores: Sequence[float | None], name: str, *, best: int) -> str:
    """A dot a trial that has a score and a value of the option: its score by the value. The first trial and the one at
    the place `best` stand out. Empty without a dot."""
    shown = [
        (place, value, score)
        for place, (value, score) in enumerate(zip(dimension.values, scores, strict=True))
        if value is not None and score is not None
    ]
    if not shown:
        return ""
    up = _Up([score for _, _, score in shown], width=SMALL_WIDTH, height=SMALL_HEIGHT, left=SMALL_LEFT)
    across = _Across(dimension, [value for _, value, _ in shown])
    dots = []
    for place, value, score in sorted(shown, key=lambda one: one[0] in (0, best)):  # these lie above the others
        kind = "dot best" if place == best else "dot first" if place == 0 else "dot"
        dots.append(
            f'<circle class="{kind}" cx="{across(value):.1f}" cy="{up(score):.1f}" r="4">'
            f"<title>trial {place + 1:,}: {escape(_number(value))}, {_written(score)}</title></circle>"
        )
    said = f"{name} of {len(shown):,} trials by {dimension.option}"
    return "\n".join([head(SMALL_WIDTH, SMALL_HEIGHT, said), *up.grid(), *across.labels(), *dots, "</svg>"])


def lines(series: Sequence[Line], name: str) -> str:
    """Values by step, at most two lines: the second is dashed. Empty without a point."""
    points = [point for line in series for point in line.points]
    if not points:
        return ""
    up = _Up([value for _, value in points])
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    parts = [head(WIDTH, HEIGHT, f"{name} by step of {' and '.join(line.name for line in series)}"), *up.grid()]
    parts.append(text(LEFT, HEIGHT - 10, f"{first:,}", "middle"))
    parts.append(text(WIDTH - RIGHT, HEIGHT - 10, f"step {last:,}", "end"))
    for kind, line in zip(("", " other"), series, strict=False):
        places = [
            f"{LEFT + (step - first) / max(1, last - first) * (WIDTH - LEFT - RIGHT):.1f},{up(value):.1f}"
            for step, value in line.points
        ]
        parts.append(f'<polyline class="line{kind}" points="{" ".join(places)}"/>')
    return "\n".join([*parts, "</svg>"])


def head(width: int, height: int, label: str) -> str:
    """The beginning of a chart; `label` says in words what it shows."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    )


def text(x: float, y: float, words: str, anchor: str = "start", *, strong: bool = False) -> str:
    kind = ' class="strong"' if strong else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


class _Up:
    """From scores to places on the axis that goes up."""

    def __init__(self, scores: Sequence[float], *, width: int = WIDTH, height: int = HEIGHT, left: int = LEFT) -> None:
        middle = (max(scores) + min(scores)) / 2
        half = max(LEAST_SPAN, max(scores) - min(scores)) / 2 * 1.1
        self._low, self._high = middle - half, middle + half
        self._width, self._left = width, left
        self._bottom, self._tall = height - BOTTOM, height - TOP - BOTTOM

    def __call__(self, score: float) -> float:
        return self._bottom - (score - self._low) / (self._high - self._low) * self._tall

    def grid(self) -> list[str]:
        """Three lines, and what they stand for."""
        parts = []
        for share in (0.0, 0.5, 1.0):
            y = self._bottom - share * self._tall
            written = _written(self._low + share * (self._high - self._low))
            right = self._width - RIGHT
            parts.append(f'<line class="grid" x1="{self._left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(text(self._left - 8, y + 4, written, "end"))
        return parts


class _Across:
    """From values of an option to places on the axis that goes across."""

    def __init__(self, dimension: Dimension, values: Sequence[float | str]) -> None:
        self._choices = [choice for choice in dimension.choices if choice in values]
        self._is_log = dimension.is_log
        self._values = values
        numbers = [self._scaled(value) for value in values]
        self._low, self._span = min(numbers), (max(numbers) - min(numbers)) or 1.0
        self._left, self._room = SMALL_LEFT + 24.0, SMALL_WIDTH - SMALL_LEFT - RIGHT - 48.0
        if min(numbers) == max(numbers):
            self._left += self._room / 2

    def __call__(self, value: float | str) -> float:
        return self._left + (self._scaled(value) - self._low) / self._span * self._room

    def labels(self) -> list[str]:
        """The choices, or the ends. Where choices are many, some have none."""
        ends = [min(self._values, key=self._scaled), max(self._values, key=self._scaled)]
        named: list[float | str] = [*self._choices] or list(dict.fromkeys(ends))
        fits = max(1, int(self._room // (max(len(_number(value)[:MOST_LETTERS]) for value in named) * 7 + 6)))
        every = max(1, -(-(len(named) - 1) // fits)) if self._choices else 1
        return [text(self(value), SMALL_HEIGHT - 10, _cut(_number(value)), "middle") for value in named[::every]]

    def _scaled(self, value: float | str) -> float:
        if isinstance(value, str):
            return float(self._choices.index(value))
        return math.log10(value) if self._is_log and value > 0 else value


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _cut(words: str) -> str:
    return words if len(words) <= MOST_LETTERS else f"{words[: MOST_LETTERS - 1]}…"


def _written(score: float) -> str:
    """To three decimals, or to four digits where that says more."""
    return f"{score:.3f}" if abs(score) < 100 else f"{score:.4g}"
