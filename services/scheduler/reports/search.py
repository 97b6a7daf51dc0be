"""The sections of a report that say what a search has found of its options."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from services.scheduler.reports.charts import Dimension, history, importance_bars, scatter
from services.scheduler.reports.importance import Importances
from services.scheduler.reports.page import figures

__all__ = ["importance_section", "trials_section"]

LEAST_WIDTH: Final = 2.0
"""Times chance that the width of a chart stands for at least."""


def trials_section(
    scores: Sequence[float | None], dimensions: Sequence[Dimension], name: str, *, best: int, minimizes: bool = False
) -> Iterable[str]:
    """The scores by trial and by each option. `name` is what scores are called, and `best` the place of the best."""
    yield figures({f"{name} by trial": history(scores, name, minimizes=minimizes)})
    charts = {one.option: scatter(one, scores, name, best=best) for one in dimensions}
    shown = {option: chart for option, chart in charts.items() if chart}
    if shown:
        yield (
            f"<h2>Options</h2><p>The {escape(name)} of the trials by each option that was searched. The best trial is "
            "green, and the default a ring. A trial that leaves an option unset, or has a value beside those that are "
            "searched, has no dot.</p>"
        )
        yield figures(shown, small=True)


def importance_section(found: Importances, conditions: Mapping[str, str]) -> Iterable[str]:
    """How much each option matters; `conditions` says in which trials an option is set that others do not set."""
    yield "<h2>Importance of options</h2>"
    if found.reason:
        yield f"<p>Nothing can be said of it. {escape(found.reason)}</p>"
        return
    everywhere = [one for one in found.found if one.option not in conditions]
    somewhere = [one for one in found.found if one.option in conditions]
    if found.found:
        most = max(LEAST_WIDTH, *(one.times_chance for one in found.found))
        yield (
            "<p>How well an option by itself tells the better half of the trials from the rest (PED-ANOVA), as a "
            "multiple of what chance alone gives: the mark. A gray bar does not pass it, so it says nothing. One "
            "option in twenty that does not matter passes it. What two options do together is not seen.</p>"
        )
        charts = {"Options of all trials": everywhere, "Options that only some trials set": somewhere}
        yield figures({name: importance_bars(bars, found.trials, most=most) for name, bars in charts.items() if bars})
    if somewhere:
        said = "; ".join(f"{one.option} {conditions[one.option]}" for one in somewhere)
        yield (
            f"<p>Judged among the trials that set them alone: {escape(said)}. Such a bar says nothing of whether to "
            "set the option, and does not compare with those of other trials.</p>"
        )
    for option, why in found.unknown.items():
        yield f"<p>Nothing can be said of {escape(option)}: {escape(why)}.</p>"
