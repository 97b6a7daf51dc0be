"""Which hyper-parameters the next trial has, from the results of those before it."""

from collections.abc import Sequence
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from pydantic import ValidationError

from services.scheduler.sweeps.state import SweepTrial, TrialState
from shared.contracts.jobs import SearchSpace, SweepSpec, TrainSpec, TrialSetting

__all__ = ["propose", "recorded"]

ATTEMPTS: Final = 10
"""Proposals of the estimator, and then of chance, until one is new."""

RANDOM: Final = 5
"""Trials by chance before the estimator has something to go by."""

DIGITS: Final = 3
"""Of a value between bounds: more say nothing, and are a burden to read."""

SHARES: Final = 1_000
"""Into how many shares a training is divided, where trials are compared by how far they came."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def propose(trials: Sequence[SweepTrial], spec: SweepSpec) -> TrialSetting | None:
    """What to try after `trials`, by the tree-structured Parzen estimator; the default first of all. None where it
    finds nothing that is not tried yet.

    Trials that failed, and those that still run, count as the worst so far: others look elsewhere. Those that were
    pruned count as worse than any that was not, and among themselves by how far they came, and then by their last
    value. The same trials and seed always give the same setting.
    """
    if not trials:
        return TrialSetting()
    tried = [trial.setting.applied(spec.train) for trial in trials]
    for attempt in range(2 * ATTEMPTS):
        # A sampler's own state would be lost with the process, so each trial has a sampler of its own.
        chance = (spec.seed + len(trials) + attempt * 2**20) % 2**32
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=chance)
        if attempt < ATTEMPTS:  # an estimator that is sure proposes the same again and again
            sampler = optuna.samplers.TPESampler(seed=chance, n_startup_trials=RANDOM)
        study = optuna.create_study(direction="minimize" if spec.minimizes else "maximize", sampler=sampler)
        for trial, train in zip(trials, tried, strict=True):
            if trial.state is TrialState.PRUNED and trial.last is not None:
                study.add_trial(recorded(train, trial.last, spec.space, pruned_after=trial.share))
            elif (value := _value(trial, trials, minimizes=spec.minimizes)) is not None:
                study.add_trial(recorded(train, value, spec.space))
        setting = _asked(study.ask(), spec)
        if setting is not None and setting.applied(spec.train) not in tried:
            return setting
    return None


def _value(trial: SweepTrial, trials: Sequence[SweepTrial], *, minimizes: bool) -> float | None:
    """What the estimator is told that a trial has scored; None where it can be told nothing."""
    if trial.score is not None:
        return trial.score
    worst = max if minimizes else min
    return worst((one.score for one in trials if one.score is not None), default=None)


def _distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The values of each hyper-parameter. Those among choices are places, as Optuna wants plain values."""
    between = {name: FloatDistribution(one.low, one.high, log=True) for name, one in space.bounds.items()}
    among = {name: CategoricalDistribution(range(len(choices))) for name, choices in space.choices.items()}
    return {**between, **among}


def _asked(asked: optuna.Trial, spec: SweepSpec) -> TrialSetting | None:
    """A setting; None where its members do not go together. A temperature without a part in the loss is left out, so
    that equal trainings are equal."""
    chosen: dict[str, Any] = {
        name: choices[asked.suggest_categorical(name, range(len(choices)))]
        for name, choices in spec.space.choices.items()
    }
    try:
        is_tempered = TrialSetting(**chosen).applied(spec.train).is_tempered
        for name, bounds in spec.space.bounds.items():
            if name != "temperature" or is_tempered:
                value = float(f"{asked.suggest_float(name, bounds.low, bounds.high, log=True):.{DIGITS}g}")
                chosen[name] = min(max(value, bounds.low), bounds.high)
        setting = TrialSetting(**chosen)
        setting.applied(spec.train)
    except ValidationError:
        return None
    return setting


def recorded(
    train: TrainSpec, value: float, space: SearchSpace, *, pruned_after: float | None = None
) -> optuna.trial.FrozenTrial:
    """What was tried, as Optuna knows it: what the default leaves to the trainer, and what lies beside the values that
    are searched, it does not learn. `pruned_after` is the share of its steps after which a trial was pruned."""
    distributions = _distributions(space)
    known: dict[str, Any] = {}
    for name, bounds in space.bounds.items():
        found = getattr(train, name)
        if found is not None and bounds.low <= found <= bounds.high:
            known[name] = found
    for name, choices in space.choices.items():
        if getattr(train, name) in choices:
            known[name] = choices.index(getattr(train, name))
    states = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=states.COMPLETE if pruned_after is None else states.PRUNED,
        params=known,
        distributions={name: distributions[name] for name in known},
        value=value,
        intermediate_values={} if pruned_after is None else {round(pruned_after * SHARES): value},
    )
