"""Which trials of a sweep end early."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.scheduler.reports.importance import Importances
from services.scheduler.sweeps.page import SweepReport, as_page
from services.scheduler.sweeps.pruning import Curve, judge
from services.scheduler.sweeps.report import as_lines, outputs
from services.scheduler.sweeps.search import propose
from services.scheduler.sweeps.state import SweepState, SweepTrial, TrialState, best
from services.scheduler.sweeps.trials import with_result
from shared.contracts.jobs import Job, JobState, SweepSpec, TrialSetting

SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-3}}


def spec(*, target: str = "embedder", **members: Any) -> SweepSpec:
    train = {"target": target, "dataset": "d1", "base": "/m" if target == "adapter" else "", "warmup": 0.1}
    return SweepSpec.model_validate({"train": train, "space": SPACE, "prune": True, "prune_after": 3, **members})


def curve(*values: float | None, steps: int = 100, every: int = 10) -> Curve:
    """A look each so many steps."""
    return Curve(steps=steps, looks=[(every * place, value) for place, value in enumerate(values, 1)])


OTHERS = [curve(*(level + look / 100 for look in range(10))) for level in (0.4, 0.5, 0.6)]


def test_a_trial_is_pruned_whose_best_look_is_worse_than_the_median_at_its_last() -> None:
    found = judge(curve(0.1, 0.3, 0.2), OTHERS, spec())
    assert found is not None
    assert found.reason == "nDCG@10 0.3000 after look 3, 30% of the steps, and the median of 3 trials is 0.5200"
    assert (found.share, found.last) == (0.3, 0.2)
    assert judge(curve(0.1, 0.6, 0.2), OTHERS, spec()) is None  # it was better once
    assert judge(curve(0.1, 0.3, 0.2), OTHERS, spec()) == found


def test_equal_is_not_worse() -> None:
    alike = [curve(0.5, 0.5)] * 3
    assert judge(curve(0.5, 0.5), alike, spec()) is None
    assert judge(curve(0.5, 0.4), alike, spec()) is None
    assert judge(curve(0.4999, 0.4999), alike, spec()) is not None


def test_of_a_perplexity_less_is_better() -> None:
    chosen = spec(target="adapter")
    assert judge(curve(9.0, 8.0), [curve(9.0, 7.0)] * 3, chosen) is not None
    assert judge(curve(9.0, 6.0), [curve(9.0, 7.0)] * 3, chosen) is None
    overflown = judge(curve(None, None), [curve(9.0, 7.0)] * 3, chosen)
    assert overflown is not None
    assert "perplexity of no finite value after look 2" in overflown.reason
    assert overflown.last is None


def test_nothing_is_decided_before_enough_trials_have_succeeded() -> None:
    assert judge(curve(0.1, 0.1), OTHERS[:2], spec()) is None
    # One of the three has not got so far as to have a value there.
    assert judge(curve(0.1, 0.1), [*OTHERS[:2], curve(0.5, every=50)], spec()) is None
    assert judge(curve(0.1, 0.1), [*OTHERS[:2], curve(None, None)], spec()) is None


def test_nothing_is_decided_while_the_learning_rate_rises() -> None:
    assert judge(curve(0.1), OTHERS, spec()) is None
    assert judge(curve(0.1, 0.1), OTHERS, spec()) is not None
    assert judge(Curve(steps=100, looks=[]), OTHERS, spec()) is None


def test_trainings_of_other_lengths_are_compared_by_the_share_of_their_steps() -> None:
    long = [curve(0.1, 0.2, 0.3, 0.4, steps=400, every=100)] * 3
    assert long[0].at(0.5) == 0.2
    assert long[0].at(0.625) == pytest.approx(0.25)
    assert long[0].at(0.2) is None
    assert judge(curve(0.22, 0.25, steps=10, every=3), long, spec()) is None  # after 60 %, against 0.24
    assert judge(curve(0.22, 0.25, 0.25, steps=10, every=3), long, spec()) is not None  # after 90 %, against 0.36
    stopped = curve(0.5, 0.4)  # by its patience, after a fifth
    assert stopped.at(0.9) == 0.4


def test_what_was_pruned_is_neither_the_best_nor_failed_and_others_look_elsewhere() -> None:
    chosen = spec(seed=3)
    trials = [
        SweepTrial(
            setting=TrialSetting(learning_rate=rate), job=f"t{place}", ended=True, score=0.5, model="m-1", hash="1"
        )
        for place, rate in enumerate((1e-5, 3e-5, 1e-4, 2e-5, 5e-5, 4e-5))
    ]
    high = [
        SweepTrial(
            setting=TrialSetting(learning_rate=rate),
            job=f"p{rate}",
            ended=True,
            pruned="it <is> bad",
            share=0.3,
            last=0.9,
        )
        for rate in (9e-4, 8e-4, 7e-4, 6e-4, 5e-4)
    ]
    state = SweepState(began=0, trials=(*trials, *high))
    assert {one.state for one in high} == {TrialState.PRUNED}
    assert (state.failed, state.pruned) == (0, 5)
    assert best(state.trials) is trials[0]
    proposed = [propose(state.trials, spec(seed=seed)) for seed in range(8)]
    assert sum(one is not None and (one.learning_rate or 0) < 4e-4 for one in proposed) >= 6
    assert propose(state.trials, chosen) == propose(state.trials, chosen)
    found = outputs(chosen, state, trials[0])
    assert (found["pruned"], found["failed"]) == (5, 0)
    assert str(found["message"]).endswith("Pruned: 5.")
    assert b'"state": "pruned"' in as_lines(state)
    page = as_page(
        SweepReport(
            job="s1",
            spec=chosen,
            state=state,
            chosen=trials[0],
            outputs=found,
            importances=Importances(trials=6, unknown={}, reason="few"),
            histories={},
        )
    ).decode()
    assert "11 trials, of which 0 failed and 5 were pruned" in page
    assert "pruned: it &lt;is&gt; bad" in page


def test_values_that_are_not_finite_take_no_part_in_a_median() -> None:
    broken = curve(0.5, None, 0.7)
    assert broken.at(0.2) == pytest.approx(0.6)
    assert judge(curve(0.1, None), OTHERS, spec()) is not None


@pytest.mark.parametrize(
    ("state", "outputs", "becomes"),
    [
        (JobState.CANCELLED, {}, TrialState.PRUNED),
        (
            JobState.SUCCEEDED,
            {"ndcg_validation": 0.7, "model": "m-1", "hash": "1", "seconds": 3.0},
            TrialState.SUCCEEDED,
        ),
        (JobState.FAILED, {}, TrialState.FAILED),
    ],
)
def test_a_job_that_ends_by_itself_before_it_hears_that_its_trial_is_pruned_counts_as_ended(
    state: JobState, outputs: dict[str, Any], becomes: TrialState
) -> None:
    asked = SweepTrial(setting=TrialSetting(), job="t2", pruned="it is bad", share=0.3, last=0.2)
    assert asked.state is TrialState.RUNNING
    job = Job(id="t2", kind="train", state=state, created_at=0.0, started_at=1.0, finished_at=9.0, outputs=outputs)
    ended = with_result(asked, job, "ndcg")
    assert ended.state is becomes
    is_pruned = becomes is TrialState.PRUNED
    assert (bool(ended.pruned), ended.last) == (is_pruned, 0.2 if is_pruned else None)
    assert (ended.score is None) is (becomes is not TrialState.SUCCEEDED)
    assert ended.seconds == {TrialState.PRUNED: 8.0, TrialState.SUCCEEDED: 3.0, TrialState.FAILED: 0.0}[becomes]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"prune_after": 0}, "greater than or equal to 1"),
        ({"prune_after": 12}, "no trial would be pruned: .prune_after. is 12, and there are 12 trials at most"),
        ({"prune_after": 5, "trials": 4}, "no trial would be pruned"),
        ({"prune": False, "prune_after": 3}, ".prune_after. is for a sweep with .prune."),
    ],
)
def test_what_would_prune_nothing_is_refused(members: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec(**members)
