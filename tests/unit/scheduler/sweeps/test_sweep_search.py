"""What a sweep tries next."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from services.scheduler.sweeps.report import outputs
from services.scheduler.sweeps.search import propose
from services.scheduler.sweeps.state import SweepState, SweepTrial, best
from shared.contracts.jobs import Loss, SweepSpec, TrialSetting

TRAIN = {"target": "embedder", "dataset": "d1"}
ADAPTER = {"target": "adapter", "dataset": "d1", "base": "/m"}
SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-3}, "batch": [16, 32]}


def spec(**members: Any) -> SweepSpec:
    return SweepSpec.model_validate({"train": TRAIN, "space": SPACE, **members})


def trial(setting: TrialSetting, score: float | None, number: int = 1, **members: Any) -> SweepTrial:
    return SweepTrial(setting=setting, job=f"t{number}", score=score, ended=True, **members)


def searched(chosen: SweepSpec, count: int) -> list[SweepTrial]:
    """Trials whose score is the better, the nearer the learning rate is to 1e-4."""
    trials: list[SweepTrial] = []
    while len(trials) < count and (setting := propose(trials, chosen)) is not None:
        rate = setting.learning_rate or 2e-5
        trials.append(trial(setting, 1 - abs(math.log10(rate) + 4) / 4, len(trials) + 1))
    return trials


def test_the_first_trial_is_the_default_and_the_others_lie_in_the_space() -> None:
    trials = searched(spec(), 12)
    assert trials[0].setting == TrialSetting()
    for one in trials[1:]:
        assert one.setting.learning_rate is not None
        assert 1e-5 <= one.setting.learning_rate <= 1e-3
        assert one.setting.batch in (16, 32)
        assert set(one.setting.changes) == {"learning_rate", "batch"}


def test_it_finds_what_does_better_and_says_the_same_again() -> None:
    trials = searched(spec(seed=1), 30)
    assert (best(trials) or trials[0]).score == pytest.approx(1, abs=0.02)
    assert searched(spec(seed=1), 30) == trials
    assert searched(spec(seed=2), 5) != trials[:5]


def test_a_space_of_choices_is_searched_once() -> None:
    chosen = spec(space={"batch": [16, 32], "steps": [100, 200]})
    trials = searched(chosen, 50)
    settings = [one.setting.applied(chosen.train) for one in trials]
    assert len(settings) == len({one.model_dump_json() for one in settings}) == 5  # the default has no steps


def test_a_temperature_is_searched_for_losses_that_have_one() -> None:
    chosen = spec(
        train={**TRAIN, "teacher": "m-0123456789ab"},
        space={"loss": ["kl-divergence", "margin-mse"], "temperature": {"low": 0.01, "high": 0.1}},
    )
    trials = searched(chosen, 8)
    for one in trials[1:]:
        assert (one.setting.temperature is None) is (one.setting.loss is Loss.MARGIN_MSE)
    assert sum(one.setting.loss is Loss.MARGIN_MSE for one in trials) == 1  # there is but one of it


def test_failed_and_running_trials_count_as_bad_ones() -> None:
    failed = trial(TrialSetting(learning_rate=1e-3, batch=16), None, 2, error="it failed")
    running = SweepTrial(setting=TrialSetting(learning_rate=5e-4, batch=16), job="t3")
    setting = propose([trial(TrialSetting(), 0.5), failed, running], spec())
    assert setting is not None
    assert setting not in (failed.setting, running.setting)
    assert best([failed, running]) is None


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"space": {}}, "at least one hyper-parameter"),
        ({"space": {"learning_rate": {"low": 1e-3, "high": 1e-5}}}, ".low. is less than .high."),
        ({"space": {"learning_rate": {"low": 1e-3, "high": 2}}}, "space.learning_rate: 2 does not go"),
        ({"space": {"batch": [16, 16]}}, "each choice once"),
        ({"space": {"loss": ["lambda"]}}, "space.loss: lambda does not go with the training"),
        ({"space": {"loss": ["margin-mse"]}}, "needs a .teacher."),
        ({"space": {"matryoshka": [[8, 16]]}}, "space.matryoshka: 8/16 does not go with the training"),
        (
            {"train": {**TRAIN, "target": "reranker"}, "space": {"temperature": {"low": 0.1, "high": 1}}},
            "target .embedder.",
        ),
        ({"train": {**TRAIN, "validation": 0}}, ".validation. is above 0"),
        ({"train": ADAPTER, "space": {"loss": ["sft", "dpo"]}}, "sweep each by itself"),
        ({"train": ADAPTER, "space": {"beta": {"low": 0.1, "high": 1}}}, "space.beta is for the loss .dpo."),
        ({"train": ADAPTER, "space": {"matryoshka": [[8]]}}, "for the target .embedder."),
        ({"space": {"rank": [8, 16]}}, "are for the target .adapter."),
        ({"trials": 1}, "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_searched_is_refused(members: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec(**members)


def test_better_is_what_the_test_rows_say_too() -> None:
    default = trial(TrialSetting(), 0.5, 1, tested=0.6, model="m-1", hash="1")
    other = trial(TrialSetting(batch=16), 0.7, 2, tested=0.55, model="m-2", hash="2")
    state = SweepState(began=0, trials=(default, other))
    found = outputs(spec(), state, other)
    assert (found["better"], found["model"]) == (False, "m-2")
    assert outputs(spec(), state, other.model_copy(update={"tested": 0.65}))["better"] is True
    assert outputs(spec(), state, default)["message"] == "No trial was better than the default on the validation rows."
    assert "better" not in outputs(spec(), state, other.model_copy(update={"tested": None}))


@pytest.mark.parametrize(
    ("members", "measure"), [({}, "perplexity"), ({"loss": "sft"}, "perplexity"), ({"loss": "dpo"}, "accuracy")]
)
def test_adapters_are_compared_by_what_their_loss_measures(members: dict[str, Any], measure: str) -> None:
    chosen = spec(train={**ADAPTER, **members}, space={"rank": [4, 8, 16]})
    assert chosen.measure == measure
    first, other = trial(TrialSetting(), 5.0), trial(TrialSetting(rank=4), 4.0, 2, tested=4.0)
    assert best([first, other], minimizes=chosen.minimizes) is (other if measure == "perplexity" else first)
    state = SweepState(began=0, trials=(first.model_copy(update={"tested": 5.0}), other))
    assert outputs(chosen, state, other)["better"] is (measure == "perplexity")
    assert outputs(chosen, state, other)[f"{measure}_after"] == 4.0


def test_where_less_is_better_it_looks_for_less() -> None:
    chosen = spec(train=ADAPTER, space={"learning_rate": {"low": 1e-5, "high": 1e-3}}, seed=1)
    trials: list[SweepTrial] = []
    for number in range(1, 31):
        setting = propose(trials, chosen)
        assert setting is not None
        rate = setting.learning_rate or 1e-5
        trials.append(trial(setting, 5 + abs(math.log10(rate) + 4), number))
    found = best(trials, minimizes=True)
    assert found is not None
    assert found.score == pytest.approx(5, abs=0.05)
