"""The report of an evaluation: its metrics with their intervals, as a table and as a plot."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from sluice.api.evaluations import Comparison, EvaluatedQuestion, EvaluationReport, MetricInterval
from sluice.notebook.markup import Cell, Markup, badge, cut, element, foreign, join, muted, table
from sluice.units import counted

__all__ = ["evaluation"]

MOST_QUESTIONS: Final = 20
MOST_METRICS: Final = 30

ROW: Final = 24
LABELS: Final = 160
PLOT: Final = 300
WIDTH: Final = LABELS + PLOT + 60
TOP: Final = 8
"""Pixels of the plot."""

COLOUR: Final = "#3b82f6"
"""Has enough contrast on white and on black; everything else has the colour of the text."""

_COUNTS: Final = frozenset({"questions", "failed", "latency_p50_ms", "latency_p95_ms"})


def evaluation(report: EvaluationReport) -> Markup:
    """The table has all metrics; the plot those that are shares. Then the questions that went wrong."""
    shares = {name: value for name, value in report.metrics.items() if name not in _COUNTS}
    return join(
        (
            element(
                "div",
                element("b", "Evaluation of ", foreign(report.collection)),
                " ",
                foreign(report.version),
                " ",
                _about(report),
            ),
            _table(report, shares),
            _plot(report, shares),
            *(_comparison(report.comparison) if report.comparison else ()),
            *_missed(report),
        )
    )


def _about(report: EvaluationReport) -> Markup:
    metrics = report.metrics
    parts = [counted(round(metrics.get("questions", len(report.questions))), "question")]
    if failed := metrics.get("failed"):
        parts.append(f"{failed:,.0f} failed")
    parts.append(cut(f"{report.mode} search" if report.mode else f"pipeline {report.pipeline or 'default'}", 200))
    if report.top_k:
        parts.append(f"top {report.top_k}")
    if "latency_p50_ms" in metrics:
        parts.append(f"latency p50 {metrics['latency_p50_ms']:,.0f} ms, p95 {metrics.get('latency_p95_ms', 0):,.0f} ms")
    return muted(" · ".join(parts))


def _table(report: EvaluationReport, shares: dict[str, float]) -> Markup:
    differences = report.comparison.differences if report.comparison else {}
    headings = ["metric", "value", "95 % interval", *(["against the baseline"] if differences else [])]
    rows = []
    for name, value in shares.items():
        row = [
            Cell(_name(name)),
            Cell(f"{value:.3f}", number=True),
            Cell(_range(report.intervals.get(name)), number=True),
        ]
        if differences:
            row.append(Cell(_change(differences.get(name)), number=True))
        rows.append(row)
    return table(headings, rows, total=len(rows), most=MOST_METRICS)


def _plot(report: EvaluationReport, shares: dict[str, float]) -> Markup:
    """A dot for each metric between 0 and 1, with a line over its interval."""
    drawn = dict(islice(shares.items(), MOST_METRICS))
    height = TOP + len(drawn) * ROW + 24
    bottom = height - 20
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _x(tick)
        line = element("line", x1=x, x2=x, y1=f"{TOP}", y2=f"{bottom}", stroke="currentColor", stroke_opacity="0.2")
        parts += [line, _label(x, height - 5, f"{tick:g}", "middle")]
    for row, (name, value) in enumerate(drawn.items()):
        middle = TOP + row * ROW + ROW / 2
        parts.append(_label(f"{LABELS - 10}", middle + 4, _name(name), "end"))
        if (bounds := report.intervals.get(name)) is not None:
            y = f"{middle:.1f}"
            ends = {"x1": _x(bounds.low), "x2": _x(bounds.high), "y1": y, "y2": y}
            parts.append(element("line", **ends, stroke=COLOUR, stroke_width="3", stroke_opacity="0.55"))
        parts.append(element("circle", cx=_x(value), cy=f"{middle:.1f}", r="5", fill=COLOUR))
        parts.append(_label(f"{LABELS + PLOT + 12}", middle + 4, f"{value:.3f}", "start"))
    title = f"Metrics of {report.collection} with their 95 % intervals"
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        width=f"{WIDTH}",
        height=f"{height}",
        viewBox=f"0 0 {WIDTH} {height}",
        font_size="12",
        role="img",
        aria_label=title[:300],
    )


def _comparison(comparison: Comparison) -> Iterator[Markup]:
    better, worse = len(comparison.better), len(comparison.worse)
    yield element(
        "div", f"{counted(better, 'question')} better and {worse:,} worse than in ", foreign(comparison.baseline)
    )
    if worse:
        rows = [[Cell(foreign(one.question)), Cell(f"{one.change:+.3f}", number=True)] for one in comparison.worse]
        said = element("summary", badge(f"{worse:,} worse", "warn"))
        yield element("details", said, table(("question", "change"), rows, total=worse, most=MOST_QUESTIONS))


def _missed(report: EvaluationReport) -> Iterator[Markup]:
    """Questions that failed, and those of which no expected document was found."""
    missed = [one for one in report.questions if one.error is not None or (one.expected and one.rank is None)]
    if not missed:
        return
    rows = [[Cell(foreign(one.question)), Cell(foreign(_why(one), 300))] for one in missed]
    said = element("summary", badge(f"{counted(len(missed), 'question')} without a relevant passage", "warn"))
    yield element("details", said, table(("question", "why"), rows, total=len(missed), most=MOST_QUESTIONS))


def _why(one: EvaluatedQuestion) -> str:
    return one.error if one.error is not None else f"expected {', '.join(one.expected)}"


def _name(metric: str) -> str:
    """`recall_at_5` as `recall@5`."""
    name = re.sub(r"_at_(\d+)$", r"@\1", metric).replace("_", " ")
    return cut({"mrr": "MRR", "ndcg@10": "nDCG@10"}.get(name, name.replace(" f1", " F1")), 40)


def _range(bounds: MetricInterval | None) -> str:
    return "" if bounds is None else f"{bounds.low:.3f} to {bounds.high:.3f}"


def _change(change: MetricInterval | None) -> str:
    if change is None:
        return ""
    return f"{change.mean or 0:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _x(value: float) -> str:
    """Where a share is in the plot."""
    return f"{LABELS + PLOT * min(1.0, max(0.0, value)):.1f}"


def _label(x: str, y: float, text: str, anchor: str) -> Markup:
    return element("text", text, x=x, y=f"{y:.1f}", text_anchor=anchor, fill="currentColor")
