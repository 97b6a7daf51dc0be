"""Experiment runs in words: one, or several beside each other."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from rich.markup import escape

from sluice.api.runs import MetricSeries, Run, Scalar
from sluice.cli.job_report import STYLES
from sluice.cli.output import ago, console, print_json, print_table, took
from sluice.cli.plain import say
from sluice.client.run_comparison import RunComparison

__all__ = [
    "comparison_as_json",
    "main_metrics",
    "number",
    "print_comparison",
    "print_run",
    "sparkline",
    "what",
]

BLOCKS: Final = "▁▂▃▄▅▆▇█"
SPARK_WIDTH: Final = 40
LONGEST: Final = 80
SHORT_ID: Final = 12


def what(run: Run) -> str:
    """The kind of a run, and the name of a pipeline."""
    return f"{run.kind} {run.name}" if run.name else run.kind


def number(value: float | None) -> str:
    """A metric in few digits; empty where there is none."""
    if value is None:
        return ""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def main_metrics(run: Run) -> str:
    """The metrics that say how good a run is, in a line."""
    return ", ".join(f"{name} {number(run.metrics[name])}" for name in run.main_metrics if name in run.metrics)


def sparkline(values: Sequence[float | None], width: int = SPARK_WIDTH) -> str:
    """A series as blocks of eight heights; a blank where a value was not finite. Of many values each block shows the
    mean of its share."""
    count = min(width, len(values))
    edges = [share * len(values) // count for share in range(count + 1)] if count else []
    shares = [_mean(values[start:end]) for start, end in pairwise(edges)]
    known = [share for share in shares if share is not None]
    if not known:
        return " " * len(shares)
    low, span = min(known), max(known) - min(known)
    top = len(BLOCKS) - 1
    return "".join(
        " " if share is None else BLOCKS[round((share - low) / span * top) if span else top // 2] for share in shares
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def print_run(run: Run, logged: Sequence[MetricSeries]) -> None:
    """One run: what it was, its parameters and metrics, and what it has logged by step."""
    terminal = console()
    style = STYLES.get(run.state, "cyan")
    where = f" in {run.collection}" if run.collection else ""
    terminal.print(
        f"[bold]{escape(run.id)}[/] {escape(what(run) + where)} [{style}]{run.state}[/] "
        f"[dim]{ago(run.created_at)}, took {took(run.started_at, run.finished_at) or 'nothing so far'}[/]",
        soft_wrap=True,
    )
    for name, value in _about(run):
        terminal.print(f"  [dim]{name}[/] {escape(value)}", soft_wrap=True)
    _section("parameters", [(name, _short(value)) for name, value in run.parameters.items()])
    main = [name for name in run.main_metrics if name in run.metrics]
    ordered = dict.fromkeys([*main, *run.metrics])
    _section("metrics", [(name, number(run.metrics[name])) for name in ordered])
    _section("outputs", [(name, _short(value)) for name, value in run.outputs.items()])
    _section("logged by step", [(series.name, _line(series)) for series in logged])
    if run.error:
        terminal.print(f"  [red]{escape(run.error)}[/]", soft_wrap=True)


def _about(run: Run) -> list[tuple[str, str]]:
    code, data = run.code, run.data
    version = ", ".join(
        part
        for part in (
            code.version and f"sluice {code.version}",
            code.revision and f"revision {code.revision}",
            code.image and f"image {code.image}",
        )
        if part
    )
    seen = f"version {data.version}, index {data.index}, documents at {data.documents}" if data.version else ""
    named = {
        "by": run.by,
        "step of": run.parent or "",
        "schedule": run.schedule or "",
        "labels": " ".join(f"{key}={value}" for key, value in sorted(run.labels.items())),
        "code": version,
        "data": seen,
        **{f"file {name}": digest for name, digest in data.files.items()},
        "trace": run.trace_id,
        "artifacts": ", ".join(run.artifacts),
    }
    return [(name, value) for name, value in named.items() if value]


def _section(title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    terminal = console()
    terminal.print(f"  [dim]{title}[/]")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        terminal.print(f"    {escape(name.ljust(width))}  {escape(value)}", soft_wrap=True)


def _line(series: MetricSeries) -> str:
    known = [value for value in series.values if value is not None]
    if not known:
        return "no finite value"
    bounds = f"{number(series.values[0])} to {number(series.values[-1])}" if len(known) > 1 else number(known[0])
    return f"{sparkline(series.values)}  {bounds}, steps {series.steps[0]:,} to {series.steps[-1]:,}"


def print_comparison(found: RunComparison) -> None:
    """Tables: the runs, parameters and versions that differ, metrics with their differences from the first run."""
    heads = [run.id if len(run.id) <= SHORT_ID else f"…{run.id[1 - SHORT_ID :]}" for run in found.runs]
    print_table(
        ("run", "kind", "collection", "state", "started"),
        [(run.id, what(run), run.collection, run.state, ago(run.started_at)) for run in found.runs],
        empty="",
    )
    differing = [(name, *map(_short, values)) for name, values in {**found.parameters, **found.versions}.items()]
    if differing:
        say("")
        print_table(("differs", *heads), differing, empty="")
    else:
        say(f"All {found.same} parameters and all versions are the same.")
    if found.metrics:
        say("")
        rows = [
            (name, *(_with_difference(*pair) for pair in zip(values, found.differences(name), strict=True)))
            for name, values in found.metrics.items()
        ]
        print_table(("metric", *(f">{head}" for head in heads)), rows, empty="")


def comparison_as_json(found: RunComparison) -> None:
    """An object by which a program compares: lists in the order of `runs`."""
    print_json(
        {
            "runs": found.runs,
            "parameters": found.parameters,
            "versions": found.versions,
            "metrics": {
                name: {"values": values, "differences": found.differences(name)}
                for name, values in found.metrics.items()
            },
        }
    )


def _with_difference(value: float | None, difference: float | None) -> str:
    if value is None or not difference:
        return number(value)
    sign = "+" if difference > 0 else "-"
    return f"{number(value)} ({sign}{number(abs(difference))})"


def _short(value: Scalar | None) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
