"""The report of an evaluation as one HTML file that needs nothing else: metrics, what has changed, each question."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from services.scheduler.evaluation.comparison import LOWER_IS_BETTER, Changed, Comparison
from services.scheduler.evaluation.intervals import Interval
from services.scheduler.evaluation.questions import Judged
from services.scheduler.evaluation.report import NAMES
from services.scheduler.reports.page import document, table
from shared.contracts.jobs import EvaluateSpec

__all__ = ["as_page", "changes"]

MOST_QUESTIONS: Final = 2_000
"""Questions that the page lists; report.json has all of them."""

MOST_CHANGED: Final = 100
SHOWN_FOUND: Final = 3
PLOT_WIDTH, ROW = 320, 22


def as_page(
    spec: EvaluateSpec,
    version: str,
    judged: Sequence[Judged],
    intervals: Mapping[str, Interval],
    comparison: Comparison | None,
    picture: bytes,
) -> bytes:
    """An HTML document; `picture` is the SVG of `as_picture`."""
    title = f"Evaluation of {spec.collection}, version {version}"
    parts = [
        f"<p>{len(judged):,} questions from {escape(spec.input)}{_synthetic(judged)}</p>",
        f"<figure>{picture.decode()}</figure>",
        *_metrics(intervals),
        *(_comparison(comparison) if comparison else ()),
        *_questions(judged),
    ]
    return document(title, parts)


def _synthetic(judged: Sequence[Judged]) -> str:
    count = sum(bool(one.synthetic) for one in judged)
    return f", {'all' if count == len(judged) else f'{count:,}'} of them written by a model" if count else ""


def _metrics(intervals: Mapping[str, Interval]) -> Iterable[str]:
    rows = [
        (escape(shown), f"{intervals[name].mean:.3f}", f"{intervals[name].low:.3f} to {intervals[name].high:.3f}")
        for name, shown in NAMES.items()
        if name in intervals
    ]
    yield "<h2>Metrics</h2><p>Means over questions, with 95 % confidence intervals by bootstrap.</p>"
    yield table(("metric", "mean", "95 % interval"), rows)


def _comparison(found: Comparison) -> Iterable[str]:
    yield f"<h2>Against {escape(found.baseline)}</h2>"
    yield f"<p>Mean differences over the {found.questions:,} questions that both have, question by question.</p>"
    rows = []
    for name, shown in NAMES.items():
        if (one := found.differences.get(name)) is not None:
            said = f"{one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
            rows.append((escape(shown), f'<span class="{_verdict(name, one)}">{said}</span>', _whisker(name, one)))
    yield table(("metric", "difference, 95 % interval", "worse | better"), rows)
    yield from changes("Better", found.better)
    yield from changes("Worse", found.worse)


def _verdict(name: str, one: Interval) -> str:
    """The class of a difference: good or bad where its interval leaves out zero."""
    low, high = (-one.high, -one.low) if name in LOWER_IS_BETTER else (one.low, one.high)
    return "good" if low > 0 else "bad" if high < 0 else "muted"


def _whisker(name: str, one: Interval) -> str:
    """A difference and its interval on a line from -1 to 1 on a square-root scale, better to the right."""
    sign = -1 if name in LOWER_IS_BETTER else 1

    def place(value: float) -> float:
        value = max(-1.0, min(1.0, sign * value))
        return PLOT_WIDTH / 2 * (1 + math.copysign(math.sqrt(abs(value)), value))

    left, middle, right = sorted(map(place, (one.low, one.mean, one.high)))
    half = ROW / 2
    return (
        f'<svg class="{_verdict(name, one)}" width="{PLOT_WIDTH}" height="{ROW}" viewBox="0 0 {PLOT_WIDTH} {ROW}">'
        f'<line x1="{PLOT_WIDTH / 2}" x2="{PLOT_WIDTH / 2}" y1="0" y2="{ROW}" stroke="currentColor" opacity=".35"/>'
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{half}" y2="{half}" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{middle:.1f}" cy="{half}" r="4" fill="currentColor"/></svg>'
    )


def changes(title: str, changed: Sequence[Changed]) -> Iterable[str]:
    """The questions whose result is another one, those first that changed most."""
    yield f"<h2>{title}: {len(changed):,} questions</h2>"
    if changed:
        rows = [
            (escape(one.question), f"{_rank(one.rank_before)} &rarr; {_rank(one.rank)}", f"{one.change:+.3f}")
            for one in changed[:MOST_CHANGED]
        ]
        yield table(("<question", "rank", "change"), rows)


def _questions(judged: Sequence[Judged]) -> Iterable[str]:
    """Those first that went worst."""
    ordered = sorted(judged, key=lambda one: (one.error is None, not _is_wrong(one), -(one.rank or 10**6)))
    yield "<h2>Questions</h2><p>Those that went worst come first.</p>"
    rows = [
        (escape(one.question), _outcome(one), escape(", ".join(one.expected)), _found(one))
        for one in ordered[:MOST_QUESTIONS]
    ]
    yield table(("<question", "rank", "<expected", "<found, or answer"), rows)
    if len(judged) > MOST_QUESTIONS:
        yield f"<p>{len(judged) - MOST_QUESTIONS:,} more are in report.json.</p>"


def _is_wrong(one: Judged) -> bool:
    return (bool(one.expected) and one.rank is None) or (one.answered is not None and one.answered != one.answerable)


def _outcome(one: Judged) -> str:
    if one.error is not None:
        return f'<span class="bad">{escape(one.error)}</span>'
    said = _rank(one.rank) if one.expected else ""
    if one.answered is not None and one.answered != one.answerable:
        wrong = "falsely declined" if one.answerable else "falsely answered"
        said = f'{said} <span class="bad">{wrong}</span>'
    return said


def _found(one: Judged) -> str:
    documents = escape(", ".join(list(dict.fromkeys(one.found))[:SHOWN_FOUND]))
    return f'{escape(one.answer)}<br><span class="muted">{documents}</span>' if one.answer else documents


def _rank(rank: int | None) -> str:
    return "none" if rank is None else str(rank)
