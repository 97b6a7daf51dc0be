"""Which options the next trial tries, from the results of those before it."""

from collections.abc import Sequence
from typing import Final

import optuna
from pydantic import BaseModel, ConfigDict

from shared.contracts.retrieval import Fusion, RetrievalOptions, SearchMode

__all__ = ["Trial", "best", "propose"]

MODE: Final = tuple(mode.value for mode in SearchMode)
FUSION: Final = tuple(fusion.value for fusion in Fusion)
WEIGHT: Final = "dense_weight"
DIVERSITY: Final = "diversity"
STEP: Final = 0.05
MOST_DIVERSITY: Final = 0.5


class Trial(BaseModel):
    """Options and their mean score on the questions to tune on."""

    model_config = ConfigDict(frozen=True)

    options: RetrievalOptions
    score: float


def propose(trials: Sequence[Trial], seed: int) -> RetrievalOptions:
    """Options to try after `trials`, by the tree-structured Parzen estimator (Bergstra et al., "Algorithms for
    Hyper-Parameter Optimization", 2011).

    The same trials and seed always give the same options: a search that was broken off goes on as it would have.
    """
    # A sampler's own state would be lost with the process, so each trial has a sampler of its own.
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=(seed + len(trials)) % 2**32)
    )
    for trial in trials:
        study.add_trial(_recorded(trial))
    asked = study.ask()
    mode = SearchMode(asked.suggest_categorical("mode", MODE))
    fusion = weight = None
    if mode is SearchMode.HYBRID:
        fusion = Fusion(asked.suggest_categorical("fusion", FUSION))
        if fusion is Fusion.SCORES:
            weight = round(asked.suggest_float(WEIGHT, 0, 1, step=STEP), 2)
    diversity = round(asked.suggest_float(DIVERSITY, 0, MOST_DIVERSITY, step=STEP), 2)
    return RetrievalOptions(mode=mode, fusion=fusion, dense_weight=weight, diversity=diversity)


def best(trials: Sequence[Trial]) -> Trial:
    """The highest score; of equals the earliest. Needs one trial."""
    return max(trials, key=lambda trial: trial.score)


def _recorded(trial: Trial) -> optuna.trial.FrozenTrial:
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        "mode": optuna.distributions.CategoricalDistribution(MODE),
        "fusion": optuna.distributions.CategoricalDistribution(FUSION),
        WEIGHT: optuna.distributions.FloatDistribution(0, 1, step=STEP),
        DIVERSITY: optuna.distributions.FloatDistribution(0, MOST_DIVERSITY, step=STEP),
    }
    chosen = {name: value for name, value in trial.options.as_params().items() if name in distributions}
    return optuna.trial.create_trial(
        params=chosen, distributions={name: distributions[name] for name in chosen}, value=trial.score
    )
