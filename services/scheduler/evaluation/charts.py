"""The chart of an evaluation, as SVG: bars of the metrics, and ranks of the first relevant passage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["Chart", "draw"]

WIDTH: Final = 920
MARGIN: Final = 40
ROW: Final = 34
TOP: Final = 150
LABELS: Final = 150
BARS: Final = 210
PLOT_LEFT: Final = 520
PLOT_WIDTH: Final = WIDTH - MARGIN - PLOT_LEFT
LEAST_PLOT: Final = 190

INK, MUTED, TRACK, GOOD, BAD = "#1f2733", "#6b7684", "#eef1f5", "#2f6fde", "#d8695c"
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is shown. `metrics` are values from 0 to 1 by their names; `ranks` holds one entry for each question, None
    where no relevant passage was among the first `depth`."""

    title: str
    subtitle: str
    metrics: Mapping[str, float]
    ranks: Sequence[int | None]
    depth: int


def draw(chart: Chart) -> str:
    """A standalone SVG document."""
    height = TOP + max(len(chart.metrics) * ROW, LEAST_PLOT if chart.ranks else 0) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="{FONT}" role="img" aria-label="{escape(chart.title, {chr(34): "&quot;"})}">',
        f'<rect width="{WIDTH}" height="{height}" rx="12" fill="#ffffff"/>',
        _text(MARGIN, 52, chart.title, size=22, weight=650),
        _text(MARGIN, 78, chart.subtitle, size=13, fill=MUTED),
        *_bars(chart.metrics),
        *(_histogram(chart, TOP, height - 60) if chart.ranks else ()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bars(metrics: Mapping[str, float]) -> list[str]:
    parts = [_text(MARGIN, TOP - 22, "Metrics", size=14, weight=600)]
    left = MARGIN + LABELS
    for row, (name, value) in enumerate(metrics.items()):
        y = TOP + row * ROW
        share = min(1.0, max(0.0, value))
        parts += [
            _text(MARGIN, y + 15, name, size=13),
            f'<rect x="{left}" y="{y}" width="{BARS}" height="20" rx="4" fill="{TRACK}"/>',
            f'<rect x="{left}" y="{y}" width="{share * BARS:.1f}" height="20" rx="4" fill="{GOOD}"/>',
            _text(left + BARS + 12, y + 15, f"{value:.3f}", size=13, weight=600),
        ]
    return parts


def _histogram(chart: Chart, top: int, bottom: int) -> list[str]:
    """How many questions had their first relevant passage at each rank, and how many had none."""
    labels = [str(rank) for rank in range(1, chart.depth + 1)] + ["none"]
    counts = [sum(rank == place for rank in chart.ranks) for place in range(1, chart.depth + 1)]
    counts.append(sum(rank is None for rank in chart.ranks))
    most = max(counts) or 1
    slot = PLOT_WIDTH / len(counts)
    bar = slot * 0.72
    parts = [
        _text(PLOT_LEFT, top - 22, "Rank of the first relevant passage", size=14, weight=600),
        f'<line x1="{PLOT_LEFT}" y1="{bottom}" x2="{PLOT_LEFT + PLOT_WIDTH}" y2="{bottom}" stroke="{MUTED}"/>',
    ]
    crowded = len(counts) > 13  # then only some ranks are labelled, so that labels do not overlap
    for index, (label, count) in enumerate(zip(labels, counts, strict=True)):
        x = PLOT_LEFT + index * slot + (slot - bar) / 2
        tall = (bottom - top - 18) * count / most
        colour = BAD if label == "none" else GOOD
        if count:
            parts.append(
                f'<rect x="{x:.1f}" y="{bottom - tall:.1f}" width="{bar:.1f}" height="{tall:.1f}" fill="{colour}"/>'
            )
            if not crowded:
                parts.append(_text(x + bar / 2, bottom - tall - 6, str(count), size=12, anchor="middle", fill=MUTED))
        if not crowded or label == "none" or index == 0 or (index + 1) % 10 == 0:
            parts.append(_text(x + bar / 2, bottom + 18, label, size=12, anchor="middle", fill=MUTED))
    return parts


def _text(
    x: float, y: float, text: str, *, size: int, weight: int = 400, fill: str = INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
