"""What the trials of a search have of each option, and how much the options matter."""

from collections.abc import Sequence

from optuna.distributions import CategoricalDistribution

from services.scheduler.reports.charts import Dimension
from services.scheduler.reports.importance import Importances, importances
from services.scheduler.tuning.search import CHUNKS, Space, Trial, recorded
from shared.contracts.jobs import ChunkSize

__all__ = ["dimensions", "option_importances"]


def dimensions(trials: Sequence[Trial], space: Space) -> list[Dimension]:
    """Of each option that has more than one value."""
    known = [recorded(trial, space).params for trial in trials]
    found = []
    for option in _searched(space):
        distribution, values = space.distributions[option], [params.get(option) for params in known]
        if not isinstance(distribution, CategoricalDistribution):
            found.append(Dimension(option=option, values=values))
            continue
        names = [_chunks(size) for size in space.chunks] if option == CHUNKS else list(map(str, distribution.choices))
        places = [None if value is None else distribution.choices.index(value) for value in values]
        shown = [None if place is None else names[place] for place in places]
        found.append(Dimension(option=option, values=shown, choices=names))
    return found


def option_importances(trials: Sequence[Trial], space: Space) -> Importances:
    """Takes seconds."""
    return importances([recorded(trial, space) for trial in trials], _searched(space))


def _searched(space: Space) -> list[str]:
    return [name for name, distribution in space.distributions.items() if not distribution.single()]


def _chunks(size: ChunkSize | None) -> str:
    if size is None:
        return "as they are"
    return f"{size.tokens}" if size.overlap is None else f"{size.tokens}/{size.overlap}"
