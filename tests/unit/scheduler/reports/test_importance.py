"""How much the options of a search matter."""

import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from services.scheduler.reports.importance import FEWEST, Importances, importances

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-5, 1e-3, log=True),
    "kind": CategoricalDistribution(("a", "b", "c")),
    "idle": FloatDistribution(0, 1, step=0.05),
}


def searched(count: int, score: Callable[[dict[str, Any]], float], *, seed: int = 0) -> list[optuna.trial.FrozenTrial]:
    """Trials by chance. Those of the kind `c` do not set `idle`."""
    chance = random.Random(seed)
    trials = []
    for _ in range(count):
        params: dict[str, Any] = {"rate": 10 ** chance.uniform(-5, -3), "kind": chance.choice("abc")}
        if params["kind"] != "c":
            params["idle"] = chance.randrange(21) / 20
        distributions = {name: DISTRIBUTIONS[name] for name in params}
        value = score(params) + chance.gauss(0, 0.02)
        trials.append(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return trials


def found(trials: list[optuna.trial.FrozenTrial], **options: bool) -> Importances:
    return importances(trials, list(DISTRIBUTIONS), **options)


def by_kind(params: dict[str, Any]) -> float:
    return 0.5 + 0.2 * (params["kind"] == "a")


def by_rate(params: dict[str, Any]) -> float:
    return 0.5 + 0.2 * (params["rate"] > 1e-4)


@pytest.mark.parametrize(("score", "option"), [(by_kind, "kind"), (by_rate, "rate")])
@pytest.mark.parametrize("minimizes", [False, True])
def test_the_option_that_decides_is_beyond_chance_and_comes_first(
    score: Callable[[dict[str, Any]], float], option: str, minimizes: bool
) -> None:
    made = found(searched(40, score, seed=2), minimizes=minimizes)
    assert made.found[0].option == option
    assert made.found[0].is_beyond_chance


def test_of_options_that_do_not_matter_few_pass_what_chance_gives() -> None:
    passed = [one.is_beyond_chance for seed in range(10) for one in found(searched(20, lambda _: 0.5, seed=seed)).found]
    assert len(passed) > 25
    assert sum(passed) / len(passed) < 0.15


def test_an_option_that_some_trials_set_is_judged_among_these() -> None:
    trials = searched(40, by_kind, seed=2)
    (idle,) = [one for one in found(trials).found if one.option == "idle"]
    assert idle.trials == sum("idle" in trial.params for trial in trials) < 40
    assert not idle.is_beyond_chance


def test_the_same_trials_say_the_same_again() -> None:
    assert found(searched(30, by_rate)) == found(searched(30, by_rate))


def test_too_few_trials_say_nothing() -> None:
    made = found(searched(FEWEST - 1, by_kind))
    assert (made.found, made.reason) == ((), "9 trials are too few: it takes 10.")


def test_trials_that_scored_alike_say_nothing() -> None:
    trials = searched(20, by_kind)
    for trial in trials:
        trial.value = 0.5
    assert found(trials).reason == "All trials scored alike."


def test_an_option_with_one_value_or_in_few_trials_is_named_with_the_reason() -> None:
    trials = [trial for trial in searched(60, by_rate) if trial.params["kind"] == "c"]
    made = found(trials)
    assert [one.option for one in made.found] == ["rate"]
    assert made.unknown == {
        "kind": "it had one value in all trials that set it",
        "idle": "0 trials set it, and it takes 10",
    }


def test_one_trial_that_stands_out_decides_nothing() -> None:
    trials = searched(20, by_kind)
    for number, trial in enumerate(trials):
        trial.value = float(number == 3)
    assert found(trials).found == []
    assert found(trials).unknown["rate"] == "nearly all trials that set it scored alike"


def test_where_most_trials_are_the_worst_the_better_ones_are_those_above() -> None:
    trials = searched(30, by_kind)
    for trial in trials:
        trial.value = float(trial.params["kind"] == "a" and trial.params["rate"] > 5e-5)
    assert "kind" in {one.option for one in found(trials).found if one.is_beyond_chance}
