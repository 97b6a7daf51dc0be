"""docs/benchmarks.md and its plots (which are no documents to be ingested), from the records in benchmarks/results."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import suite

if TYPE_CHECKING:
    from matplotlib.axis import Axis

__all__ = ["COLOURS", "PAGE", "PLOTS", "draw", "plain_log", "records", "text", "write"]

PAGE = suite.ROOT / "docs" / "benchmarks.md"
PLOTS = suite.ROOT / "benchmarks" / "plots"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito: told apart by those who see few colours, and in print. The first is Sluice's."""

STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.figsize": (8.0, 4.0),
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    # The same results give the same bytes.
    "svg.hashsalt": "sluice",
    "svg.fonttype": "path",
}

HEAD = """# Benchmarks

Each section below shows the results of one command on the machine that it names. `make bench` runs all of them and
generates this page from the raw figures in `benchmarks/results/*.json`. Contenders alternate within each repetition. A
figure is the median of its repetitions, followed by the minimum and maximum where they matter. Machines of one name
differ in speed up to threefold: compare sections only by the time of an empty loop, where they name it.
"""


def records() -> Iterator[dict[str, Any]]:
    """What was measured, in the order of the page."""
    for name in suite.names():
        file = suite.RESULTS / f"{name}.json"
        if file.exists():
            yield json.loads(file.read_text())


def text() -> str:
    """The whole page."""
    found = list(records())
    return "\n".join([HEAD, *_targets(found), *(_section(record) for record in found)])


def _targets(found: list[dict[str, Any]]) -> Iterator[str]:
    """What was aimed at, whether it was reached or not."""
    lines = []
    for record in found:
        module = suite.benchmark(record["name"])
        targets: list[suite.Target] = getattr(module, "targets", lambda _: [])(record["results"])
        place = re.sub(r"[^a-z0-9 -]", "", module.TITLE.lower()).replace(" ", "-")
        lines += [
            f"| [{module.TITLE}](#{place}) | {target.wanted} | {target.found} | {'yes' if target.met else '**no**'} |"
            for target in targets
        ]
    if lines:
        yield "\n".join(["## Targets", "", "| benchmark | target | measured | met |", "|---|---|---|---|", *lines, ""])


def _section(record: dict[str, Any]) -> str:
    module = suite.benchmark(record["name"])
    machine, versions = record["machine"], record["versions"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['os']}"
    if "loop_ms" in machine:
        where += f", a million empty loops of Python in {machine['loop_ms']:.0f} ms"
    with_what = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"""## {module.TITLE}

{module.ABOUT.strip()}

{module.table(record["results"]).strip()}

![{module.TITLE}](../benchmarks/plots/{record["name"]}.svg)

`{record["command"]}`, {record["measured_at"][:10]}, {record["seconds"]:.0f} s. {where}. {with_what}.
"""


def plain_log(axis: "Axis") -> None:
    """A logarithmic axis with plain numbers: 1, 2, 5, 10, 20, ..."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def draw(record: dict[str, Any], file: Path) -> None:
    """The plot of a record, as SVG or by the file's ending; the same record gives the same bytes."""
    import matplotlib as mpl
    from matplotlib import figure as figures

    with mpl.rc_context(STYLE | {"axes.prop_cycle": mpl.cycler(color=COLOURS)}):
        figure = figures.Figure()
        suite.benchmark(record["name"]).plot(record["results"], figure)
        metadata = {"Date": None, "Creator": None} if file.suffix == ".svg" else None
        figure.savefig(file, metadata=metadata)


def write() -> list[Path]:
    """Write the page and a plot for each record; returns what was written."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    written = []
    for record in records():
        written.append(PLOTS / f"{record['name']}.svg")
        draw(record, written[-1])
    PAGE.write_text(text())
    return [*written, PAGE]
