"""How much each option of a search matters for what its trials score."""

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

__all__ = ["FEWEST", "Importance", "Importances", "importances"]

FEWEST: Final = 10
"""Trials. With fewer, chance alone makes any option look important."""

SHUFFLES: Final = 99
WITHIN: Final = 95
"""Of the shuffles. With the order that was seen there are one hundred: a value above this is among the highest five."""

LEAST_CHANCE: Final = 1e-6

# The evaluator and its option `normalize` are what Optuna has without scikit-learn.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings(
    "ignore", message="PedAnovaImportanceEvaluator computes the importances of params to achieve low"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Of one option, among the `trials` that set it: a divergence, 0 or more, and what an option that does not matter
    stays under in 95 of 100 searches, `chance`, which is above 0."""

    option: str
    value: float
    chance: float
    trials: int

    @property
    def times_chance(self) -> float:
        """What options are compared by: the divergences of numbers are larger by themselves than those of choices."""
        return self.value / self.chance

    @property
    def is_beyond_chance(self) -> bool:
        return self.value > self.chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """What is known of `trials` trials: the options from the most important one, and why of others nothing can be
    said. `reason` says why nothing can be said of any."""

    trials: int
    found: Sequence[Importance] = ()
    unknown: Mapping[str, str]
    reason: str = ""


def importances(
    trials: Sequence[optuna.trial.FrozenTrial], options: Sequence[str], *, minimizes: bool = False
) -> Importances:
    """The importance of options for a trial's being among the better half of those that set the option.

    It is PED-ANOVA (Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces", 2023): the Pearson divergence between the density of the option's values in the better half
    and that in all trials. The half rather than the top tenth is what a few dozen trials can tell apart, most of which
    are good already. An option is judged by itself: what two options do together is not seen. Where only some trials
    set an option, only these are looked at, so its importance does not compare with that of others.

    How high the divergence is by chance depends on the number of trials, and on whether an option is a number. So the
    scores are shuffled among the trials, and `chance` is the 95th of 99 values in their order. The same trials always
    give the same. Takes seconds.
    """
    total = len(trials)
    if total < FEWEST:
        return Importances(trials=total, unknown={}, reason=f"{total:,} trials are too few: it takes {FEWEST}.")
    if len({trial.value for trial in trials}) == 1:
        return Importances(trials=total, unknown={}, reason="All trials scored alike.")
    found, unknown = [], {}
    for option in options:
        measured = _importance([trial for trial in trials if option in trial.params], option, minimizes=minimizes)
        if isinstance(measured, str):
            unknown[option] = measured
        else:
            found.append(measured)
    return Importances(trials=total, found=sorted(found, key=lambda one: -one.times_chance), unknown=unknown)


def _importance(trials: Sequence[optuna.trial.FrozenTrial], option: str, *, minimizes: bool) -> Importance | str:
    """An importance, or why there is none."""
    if len(trials) < FEWEST:
        return f"{len(trials):,} trials set it, and it takes {FEWEST}"
    if len({trial.params[option] for trial in trials}) == 1:
        return "it had one value in all trials that set it"
    losses = [(trial.value or 0.0) * (1 if minimizes else -1) for trial in trials]
    top = _better(losses)
    if top < 2:
        return "nearly all trials that set it scored alike"
    study = optuna.create_study()
    study.add_trials(trials)
    # Half a trial less, so that rounding does not add one.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(top - 0.5) / len(losses))

    def measured() -> float:
        # Optuna numbers the trials of a study in their order.
        known = get_param_importances(
            study, evaluator=evaluator, params=[option], target=lambda trial: losses[trial.number], normalize=False
        )
        return float(known[option])

    value, by_chance = measured(), []
    chance = random.Random(len(losses))  # noqa: S311
    for _ in range(SHUFFLES):
        chance.shuffle(losses)
        by_chance.append(measured())
    level = max(sorted(by_chance)[WITHIN - 1], LEAST_CHANCE)
    return Importance(option=option, value=value, chance=level, trials=len(losses))


def _better(losses: Sequence[float]) -> int:
    """How many are the better half; fewer where the middle is the same as the worst."""
    ordered = sorted(losses)
    half = len(ordered) // 2
    if ordered[half - 1] < ordered[-1]:
        return half
    return sum(loss < ordered[-1] for loss in ordered)
