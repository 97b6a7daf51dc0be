"""What the trials of a sweep have of each hyper-parameter, and how much these matter."""

from collections.abc import Mapping

from services.scheduler.reports.charts import Dimension
from services.scheduler.reports.importance import Importances, importances
from services.scheduler.sweeps.search import recorded
from services.scheduler.sweeps.state import SweepState
from shared.contracts.jobs import SweepSpec, TrialSetting

__all__ = ["conditions", "dimensions", "option_importances", "written"]


def dimensions(spec: SweepSpec, state: SweepState) -> list[Dimension]:
    """Of each hyper-parameter that is searched, the values in the trials that lie in the space."""
    params = [recorded(trial.setting.applied(spec.train), 0.0, spec.space).params for trial in state.trials]
    found = [
        Dimension(option=option, values=[known.get(option) for known in params], is_log=True)
        for option in spec.space.bounds
    ]
    for option, choices in spec.space.choices.items():
        names = [written(option, choice) for choice in choices]
        values = [names[known[option]] if option in known else None for known in params]
        found.append(Dimension(option=option, values=values, choices=names))
    return found


def option_importances(spec: SweepSpec, state: SweepState) -> Importances:
    """Of the trials that have a score. Takes seconds."""
    scored = [
        recorded(trial.setting.applied(spec.train), trial.score, spec.space)
        for trial in state.trials
        if trial.score is not None
    ]
    return importances(scored, [*spec.space.bounds, *spec.space.choices], minimizes=spec.minimizes)


def conditions(spec: SweepSpec) -> Mapping[str, str]:
    """In which trials a hyper-parameter is set that others do not set."""
    losses = [TrialSetting(loss=loss).applied(spec.train) for loss in spec.space.loss]
    some = spec.space.temperature is not None and not all(train.is_tempered for train in losses)
    return {"temperature": "with losses that have one"} if some else {}


def written(option: str, value: object) -> str:
    """A value as people read it."""
    return "" if value is None else str(TrialSetting.model_validate({option: value})).removeprefix(f"{option} ")
