"""Experiment runs beside each other as one HTML file that needs nothing else."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from sluice.api.runs import MetricSeries, Run, Scalar
from sluice.cli.output import moment, took
from sluice.cli.run_charts import Axis, bars, lines, parallel_coordinates, run_class
from sluice.cli.run_report import number, what
from sluice.client.run_comparison import RunComparison, compare

__all__ = ["as_page"]

MOST_AXES: Final = 10
MOST_BARS: Final = 24
SHORT_ID: Final = 18

LIGHT: Final = ("#2f6fde", "#c2600a", "#1a7f5a", "#b5338a", "#6b5bd2", "#0b7a8a", "#866500", "#c4473a")
DARK: Final = ("#7aa7ff", "#ffa657", "#4cc38a", "#f28bd0", "#b3a6ff", "#56d4dd", "#e3c04d", "#ff8b7e")
DASHES: Final = ("none", "7 4", "2 4")

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2733; --muted: #5f6b7a; --line: #e3e7ec; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --muted: #98a2b0; --line: #333c48; --paper: #161b22; } }
body { margin: 2rem auto; max-width: 980px; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, .muted { color: var(--muted); } .wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; }
th { color: var(--muted); font-weight: 600; } td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 12px; padding: .7rem; }
figcaption { font-weight: 600; font-size: 14px; padding: 0 .3rem .3rem; } svg { width: 100%; height: auto; }
text { font-size: 12px; fill: var(--muted); } .strong { fill: var(--ink); font-weight: 600; }
.halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.grid, .axis { stroke: var(--line); } .axis { stroke-width: 2; }
.line { fill: none; stroke: var(--run); stroke-width: 2; stroke-linejoin: round; }
.dot, .bar { fill: var(--run); } .swatch { color: var(--run); white-space: nowrap; }
"""


def as_page(runs: Sequence[Run], logged: Sequence[Sequence[MetricSeries]]) -> str:
    """An HTML document. `logged` is what each run has logged by step, in the order of the runs."""
    found = compare(runs) if len(runs) > 1 else None
    title = f"{len(runs)} runs" if found else f"Run {runs[0].id}"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}{_colors()}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *_overview(runs),
        *(_differences(found) if found else _parameters(runs[0])),
        *_histories(logged),
        *(_coordinates(found) if found else ()),
        *_outputs(runs),
        "</body></html>",
    ]
    return "\n".join(parts)


def _colors() -> str:
    light = "".join(f".run{n} {{ --run: {color}; }}" for n, color in enumerate(LIGHT))
    dark = "".join(f".run{n} {{ --run: {color}; }}" for n, color in enumerate(DARK))
    dashes = "".join(f".line.dash{n} {{ stroke-dasharray: {dash}; }}" for n, dash in enumerate(DASHES))
    return f"{light}@media (prefers-color-scheme: dark) {{ {dark} }}{dashes}\n"


def _overview(runs: Sequence[Run]) -> Iterable[str]:
    rows = [
        (
            f'<span class="swatch {run_class(n)}">&#9679;</span> {escape(run.id)}',
            escape(what(run)),
            escape(run.collection),
            escape(run.state),
            escape(moment(run.started_at)),
            escape(took(run.started_at, run.finished_at)),
        )
        for n, run in enumerate(runs)
    ]
    yield _table(("run", "kind", "collection", "state", "started", "took"), rows)


def _differences(found: RunComparison) -> Iterable[str]:
    heads = [_name(n, run) for n, run in enumerate(found.runs)]
    rows = [
        (escape(name), *(escape(_said(value)) for value in values))
        for name, values in {**found.parameters, **found.versions}.items()
    ]
    yield "<h2>What differs</h2>"
    yield _table(("", *heads), rows) if rows else "<p>All parameters and all versions are the same.</p>"
    if found.metrics:
        yield "<h2>Metrics</h2><p>In brackets the difference from the first run.</p>"
        yield _table(
            ("", *heads),
            [
                (escape(name), *map(_measured, values, found.differences(name)))
                for name, values in found.metrics.items()
            ],
        )


def _parameters(run: Run) -> Iterable[str]:
    yield "<h2>Parameters</h2>"
    yield _table(("", ""), [(escape(name), escape(_said(value))) for name, value in run.parameters.items()])


def _histories(logged: Sequence[Sequence[MetricSeries]]) -> Iterable[str]:
    names = dict.fromkeys(series.name for found in logged for series in found)
    charts = {
        name: lines(name, [(run, one) for run, found in enumerate(logged) for one in found if one.name == name])
        for name in names
    }
    if any(charts.values()):
        yield "<h2>Metrics by step</h2>"
        yield _figures(charts)


def _coordinates(found: RunComparison) -> Iterable[str]:
    """The parameters that differ beside the metrics: the axes that tell runs apart."""
    axes = [
        Axis(name=name, values=[_placed(value) for value in values])
        for name, values in {**found.parameters, **found.metrics}.items()
        if len(set(values)) > 1 and not any(isinstance(value, str) and len(value) > SHORT_ID for value in values)
    ]
    if len(axes) > 1:
        yield "<h2>Parameters and metrics</h2><p>A line a run; the axes are what differs.</p>"
        for start in range(0, len(axes), MOST_AXES):
            portion = axes[start : start + MOST_AXES]
            yield f'<figure class="wide">{parallel_coordinates(portion, len(found.runs))}</figure>'


def _outputs(runs: Sequence[Run]) -> Iterable[str]:
    main = [name for run in runs for name in run.main_metrics]
    names = list(dict.fromkeys([*main, *(name for run in runs for name in run.metrics)]))[:MOST_BARS]
    if names:
        short = [_short(run.id) for run in runs]
        yield "<h2>Outputs</h2>"
        yield _figures({name: bars([run.metrics.get(name) for run in runs], short, name) for name in names})


def _figures(charts: dict[str, str]) -> str:
    figures = [
        f"<figure><figcaption>{escape(name)}</figcaption>{chart}</figure>" for name, chart in charts.items() if chart
    ]
    return f'<div class="charts">{"".join(figures)}</div>'


def _name(index: int, run: Run) -> str:
    return f'<span class="swatch {run_class(index)}">&#9679; {escape(_short(run.id))}</span>'


def _short(run: str) -> str:
    """The end of an id, which tells ids apart that were made one after the other."""
    return run if len(run) <= SHORT_ID else f"…{run[1 - SHORT_ID :]}"


def _said(value: Scalar | None) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _placed(value: Scalar | None) -> float | str | None:
    return str(value).lower() if isinstance(value, bool) else value


def _measured(value: float | None, difference: float | None) -> str:
    if value is None or not difference:
        return number(value)
    sign = "+" if difference > 0 else "&minus;"
    return f'{number(value)} <span class="muted">({sign}{number(abs(difference))})</span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already."""
    lines = [
        '<div class="wide"><table><thead><tr>',
        *(f"<th>{head}</th>" for head in heads),
        "</tr></thead><tbody>",
        *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows),
        "</tbody></table></div>",
    ]
    return "".join(lines)
