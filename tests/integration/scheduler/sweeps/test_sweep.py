"""Sweeps as jobs: real trainings of a tiny model, of which the best is kept."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from services.scheduler.sweeps.state import SweepState, SweepTrial
from shared.contracts.jobs import Job, JobState, PipelineSpec, SweepSpec, TrialSetting
from shared.contracts.models import ModelKind
from shared.nats.subjects import JOB_EVENTS
from shared.stores.checkpoints import Checkpoints
from tests.harness.adapters import answers
from tests.harness.broker import NatsServer
from tests.harness.command_harness import WorkerProcess
from tests.harness.pages import check_page
from tests.harness.paths import PROGRAMS
from tests.harness.stage_harness import until
from tests.harness.training import ASKED, TrainHarness, make_bert, open_train_harness, ruled_rows

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_200)]

PATIENCE = 900.0


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture
async def train_harness(own_broker: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TrainHarness]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with open_train_harness(own_broker.url) as harness:
        harness.patience = PATIENCE  # a sweep is several trainings
        await harness.put_rows(ruled_rows(), ruled_rows(ASKED[5:]))
        yield harness


async def spec(harness: TrainHarness, bert: Path, *, train: dict[str, Any] | None = None, **members: Any) -> SweepSpec:
    """The default learns nothing in its steps: its rate is far too low."""
    base = await harness.put_base(bert)
    given = {"learning_rate": 1e-7, "steps": 12, "epochs": 1, "validation": 0.2, "eval_steps": 6, **(train or {})}
    space = {"learning_rate": {"low": 2e-3, "high": 1e-2}}
    return SweepSpec.model_validate(
        {"train": harness.spec(base, **given).model_dump(), "space": space, "trials": 3, **members}
    )


async def trials_of(harness: TrainHarness, sweep: str) -> list[Job]:
    found = await harness.job_store.list("t", parent=sweep, limit=100)
    return sorted(found, key=lambda job: int(job.options.labels["trial"]))


async def lines_of(harness: TrainHarness, sweep: str) -> list[dict[str, Any]]:
    lines = (await harness.artifacts.get("t", f"{sweep}/trials.jsonl")).splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


async def test_the_best_model_is_kept_and_the_others_are_removed(train_harness: TrainHarness, bert: Path) -> None:
    async with train_harness.working():
        job = await train_harness.ended(await train_harness.submit(await spec(train_harness, bert), "s1"))
    assert job.state is JobState.SUCCEEDED, job.error
    outputs = job.outputs
    assert float(str(outputs["ndcg_validation"])) > float(str(outputs["ndcg_validation_default"])) + 0.1
    assert (outputs["better"], outputs["trials"], outputs["failed"]) == (True, 3, 0)
    lines = await lines_of(train_harness, "s1")
    assert [line["setting"] == {} for line in lines] == [True, False, False]
    assert all(2e-3 <= line["setting"]["learning_rate"] <= 1e-2 for line in lines[1:])
    chosen = max(lines, key=lambda line: line["score"])
    assert (outputs["model"], outputs["job"]) == (chosen["model"], chosen["job"])
    made = [model for model in await train_harness.models.list("t") if model.job]
    assert [model.name for model in made] == [outputs["model"]]
    assert f"trial {chosen['trial']} of the sweep s1" in made[0].description
    page = (await train_harness.artifacts.get("t", "s1/report.html")).decode()
    check_page(page)
    assert "3 trials are too few" in page
    assert "validation_ndcg by step of best trial and default" in page
    trials = await trials_of(train_harness, "s1")
    assert [trial.kind for trial in trials] == ["train"] * 3
    for before, after in pairwise(trials):  # one at a time
        assert before.finished_at is not None
        assert before.finished_at <= after.created_at


async def test_a_scheduler_is_killed_and_the_sweep_goes_on_without_a_second_trial_of_any(
    train_harness: TrainHarness, own_broker: NatsServer, bert: Path
) -> None:
    chosen = await spec(train_harness, bert)
    async with train_harness.working():
        whole = await train_harness.ended(await train_harness.submit(chosen, "whole"))
    await train_harness.submit(chosen, "killed")

    async def second_runs() -> bool:
        found = await trials_of(train_harness, "killed")
        return len(found) == 2 and found[1].state is JobState.RUNNING

    with WorkerProcess(own_broker.url, PROGRAMS / "train_worker.py") as worker:
        await until(second_runs, "the second trial to run", patience=PATIENCE)
        worker.kill()
    async with train_harness.working():
        job = await train_harness.ended("killed")
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.crashes == 1
    assert job.outputs | {"job": ""} == whole.outputs | {"job": ""}
    assert len(await trials_of(train_harness, "killed")) == 3
    first, second = [await lines_of(train_harness, sweep) for sweep in ("whole", "killed")]
    assert [line["setting"] for line in first] == [line["setting"] for line in second]
    made = [model.name for model in await train_harness.models.list("t") if model.job]
    assert made == [job.outputs["model"]]


async def test_trials_beside_each_other_are_bounded_and_one_may_fail(train_harness: TrainHarness, bert: Path) -> None:
    # The vectors have 32 dimensions.
    chosen = await spec(
        train_harness,
        bert,
        train={"steps": 2, "eval_steps": 1},
        space={"matryoshka": [[8], [64], [16]]},
        trials=4,
        parallel=2,
    )
    async with train_harness.working():
        job = await train_harness.ended(await train_harness.submit(chosen, "s1"))
    assert job.state is JobState.SUCCEEDED, job.error
    assert (job.outputs["trials"], job.outputs["failed"]) == (4, 1)
    (failed,) = [line for line in await lines_of(train_harness, "s1") if line.get("error")]
    assert failed["setting"] == {"matryoshka": [64]}
    assert "`matryoshka` cannot name 64" in failed["error"]
    page = (await train_harness.artifacts.get("t", "s1/report.html")).decode()
    check_page(page)
    assert "4 trials, of which 1 failed" in page
    assert "`matryoshka` cannot name 64" in page
    trials = await trials_of(train_harness, "s1")
    most = max(sum(one.created_at <= trial.created_at < (one.finished_at or 0) for one in trials) for trial in trials)
    assert most == 2


async def test_a_sweep_whose_default_fails_fails_and_says_so(train_harness: TrainHarness, bert: Path) -> None:
    chosen = await spec(train_harness, bert, train={"matryoshka": (64,)}, parallel=2)
    async with train_harness.working():
        job = await train_harness.ended(await train_harness.submit(chosen, "s1"))
        for trial in await trials_of(train_harness, "s1"):
            await train_harness.ended(trial.id)
    assert job.error is not None
    assert "The training of the default, job s1-trial1, has failed" in job.error.detail
    assert "cannot name 64" in job.error.detail
    assert [model for model in await train_harness.models.list("t") if model.job] == []


@pytest.mark.parametrize(
    ("train", "code", "says"),
    [
        ({"dataset": "nowhere"}, "not-found", "There is no data set 'nowhere'"),
        ({"dataset": "half"}, "not-found", "has no test.parquet"),
        (
            {"target": "adapter", "base": "/allowed/model"},
            "invalid-request",
            "has no answers.parquet for an adapter; it has train.parquet for an embedder or a reranker",
        ),
        (
            {"target": "adapter", "base": "/allowed/model", "loss": "dpo", "dataset": "empty"},
            "invalid-request",
            "has no preferences to train an adapter by the loss 'dpo' on",
        ),
        ({"teacher": "m-0123456789ab"}, "model-not-found", "m-0123456789ab"),
        ({"teacher": "BASE"}, "invalid-request", "is of the kind 'embedder', and a `teacher` is of the kind reranker"),
        ({"teacher": "/elsewhere"}, "training-refused", "may not learn from '/elsewhere'"),
        ({"base": "m-0123456789ab"}, "model-not-found", "m-0123456789ab"),
        ({"base": "/elsewhere"}, "training-refused", "may not begin with '/elsewhere'"),
        ({"executor": "kubernetes"}, "training-refused", "SLUICE_TRAINING_IMAGE"),
    ],
)
async def test_what_cannot_be_trained_is_refused_before_any_trial(
    broker: NatsServer, bert: Path, train: dict[str, Any], code: str, says: str
) -> None:
    async with open_train_harness(broker.url, training_bases="/allowed") as harness:
        base = await harness.put_base(bert)
        await harness.put_rows(ruled_rows()[:4], ruled_rows()[:4])
        await harness.put_files("half", train=ruled_rows()[:4])
        await harness.put_files("empty", preferences=answers(last=1), test_preferences=answers(last=1))
        await harness.artifacts.put("t", "empty/dataset.json", b'{"hash": "5eed", "train": {"preferences": 0}}')
        given = {name: base if value == "BASE" else value for name, value in train.items()}
        rates = {"learning_rate": {"low": 2e-3, "high": 1e-2}}
        refused = SweepSpec.model_validate({"train": harness.spec(**{"base": base} | given), "space": rates})
        async with harness.working():
            job = await harness.ended(await harness.submit(refused, "refused"))
        assert job.error is not None
        assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, code)
        assert says in job.error.detail
        assert await trials_of(harness, "refused") == []


async def test_rows_that_cannot_be_set_aside_are_a_problem(train_harness: TrainHarness, bert: Path) -> None:
    await train_harness.put_rows(ruled_rows()[:8], [])
    async with train_harness.working():
        job = await train_harness.ended(await train_harness.submit(await spec(train_harness, bert), "s1"))
    assert job.error is not None
    assert "The trials cannot be compared: too few rows" in job.error.detail
    assert [model for model in await train_harness.models.list("t") if model.job] == []


async def test_a_sweep_is_a_step_of_a_pipeline_for_which_there_is_room_although_the_pipeline_waits(
    train_harness: TrainHarness, bert: Path
) -> None:
    chosen = await spec(train_harness, bert, train={"steps": 2, "eval_steps": 1}, trials=2)
    members = chosen.model_dump(mode="json", exclude_none=True)
    members["train"]["dataset"] = "${{ parameters.dataset }}"
    pipeline = PipelineSpec.model_validate(
        {
            "name": "searched",
            "parameters": {"dataset": "d1"},
            "steps": {
                "search": {"job": members},
                "worse": {"when": "search.ndcg_validation < 0", "job": members},
            },
            "outputs": {"model": "${{ search.model }}", "trials": "${{ search.trials }}"},
        }
    )
    async with train_harness.working(room=1):
        job = await train_harness.ended(await train_harness.submit(pipeline, "p1"))
    assert job.state is JobState.SUCCEEDED, job.error
    made = [model.name for model in await train_harness.models.list("t") if model.job]
    assert job.outputs == {"model": made[0], "trials": 2}
    (sweep,) = await train_harness.job_store.list("t", parent="p1", limit=10)
    assert (sweep.kind, sweep.outputs["model"]) == ("sweep", made[0])
    assert len(await trials_of(train_harness, sweep.id)) == 2


async def test_a_sweep_that_is_cancelled_ends_its_trials_and_keeps_no_model(
    train_harness: TrainHarness, bert: Path
) -> None:
    chosen = await spec(train_harness, bert, trials=50)

    async def second_runs() -> bool:
        found = await trials_of(train_harness, "s1")
        return len(found) == 2 and found[1].state is JobState.RUNNING

    async with train_harness.working():
        await train_harness.submit(chosen, "s1")
        await until(second_runs, "the second trial to run", patience=PATIENCE)
        await train_harness.job_store.cancel("t", "s1")
        job = await train_harness.ended("s1")
        trials = [await train_harness.ended(trial.id) for trial in await trials_of(train_harness, "s1")]
    assert job.state is JobState.CANCELLED
    assert [trial.state for trial in trials] == [JobState.SUCCEEDED, JobState.CANCELLED]
    assert [model for model in await train_harness.models.list("t") if model.job] == []


async def test_adapters_are_swept_by_their_perplexity(
    own_broker: NatsServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with open_train_harness(own_broker.url, training_bases=str(tiny_model)) as harness:
        harness.patience = PATIENCE
        await harness.put_files(answers=answers(last=16), test_answers=answers(first=16))
        train = {"target": "adapter", "steps": 10, "eval_steps": 5, "validation": 0.5, "learning_rate": 1e-7}
        chosen = SweepSpec.model_validate(
            {
                "train": harness.spec(str(tiny_model), **train).model_dump(),
                "space": {"learning_rate": {"low": 2e-3, "high": 1e-2}, "rank": [4, 8]},
                "trials": 2,
            }
        )
        async with harness.working():
            job = await harness.ended(await harness.submit(chosen, "s1"))
        assert job.state is JobState.SUCCEEDED, job.error
        outputs = job.outputs
        assert float(str(outputs["perplexity_validation"])) < float(str(outputs["perplexity_validation_default"])) / 2
        assert (outputs["better"], outputs["job"]) == (True, "s1-trial2")
        assert [model.name for model in await harness.models.list("t")] == [outputs["model"]]


async def test_a_trial_that_does_worse_than_others_did_by_then_is_pruned(
    train_harness: TrainHarness, bert: Path
) -> None:
    chosen = await spec(
        train_harness,
        bert,
        train={"learning_rate": 5e-3, "eval_steps": 1, "warmup": 0.0, "patience": None},
        # It learns nothing in ever so many steps.
        space={"learning_rate": {"low": 1e-9, "high": 1e-8}, "steps": [300]},
        trials=2,
        prune=True,
        prune_after=1,
    )
    async with train_harness.working():
        job = await train_harness.ended(await train_harness.submit(chosen, "s1"))
    assert job.state is JobState.SUCCEEDED, job.error
    outputs = job.outputs
    assert (outputs["trials"], outputs["failed"], outputs["pruned"]) == (2, 0, 1)
    assert outputs["job"] == "s1-trial1"
    assert str(outputs["message"]).endswith("Pruned: 1.")
    default, hopeless = await lines_of(train_harness, "s1")
    assert (default["state"], hopeless["state"]) == ("succeeded", "pruned")
    assert hopeless["pruned"].startswith("nDCG@10 ")
    assert "and the median of 1 trial is " in hopeless["pruned"]
    assert 0 < hopeless["share"] < 1
    assert not {"score", "model", "error"} & {name for name, value in hopeless.items() if value}
    ended = await train_harness.job_store.get("t", "s1-trial2")
    assert ended.state is JobState.CANCELLED
    made = [model.name for model in await train_harness.models.list("t") if model.job]
    assert made == [outputs["model"]]
    page = (await train_harness.artifacts.get("t", "s1/report.html")).decode()
    check_page(page)
    assert "2 trials, of which 0 failed and 1 were pruned" in page
    assert f"pruned: {hopeless['pruned']}" in page


async def test_whoever_takes_a_sweep_over_ends_the_trial_that_was_to_be_pruned(
    train_harness: TrainHarness, bert: Path, tmp_path: Path
) -> None:
    """The scheduler before was killed when it had saved that, and the trial had just made its model."""
    chosen = await spec(train_harness, bert, trials=2, prune=True, prune_after=1)
    kept, left = [
        await train_harness.models.put("t", make_bert(tmp_path / job, layers=layers), ModelKind.EMBEDDER, job=job)
        for layers, job in ((1, "s1-trial1"), (3, "s1-trial2"))
    ]
    first = SweepTrial(
        setting=TrialSetting(), job="s1-trial1", ended=True, score=0.5, model=kept.name, hash=kept.hash, seconds=1.0
    )
    second = SweepTrial(
        setting=TrialSetting(learning_rate=5e-3), job="s1-trial2", pruned="nDCG@10 0.1", share=0.5, last=0.1
    )
    saved = SweepState(began=1.0, trials=(first, second)).model_dump(mode="json", exclude_none=True)
    await Checkpoints(train_harness.harness.jetstream).put("t", "s1", saved)
    async with train_harness.working():
        job = await train_harness.ended(await train_harness.submit(chosen, "s1"))
    assert job.state is JobState.SUCCEEDED, job.error
    assert (job.outputs["model"], job.outputs["pruned"], job.outputs["failed"]) == (kept.name, 1, 0)
    assert (await train_harness.job("s1-trial2")).state is JobState.CANCELLED
    event = await train_harness.harness.jetstream.get_msg(JOB_EVENTS, subject="event.job.s1-trial2.*")
    assert "pruned: nDCG@10 0.1" in (event.headers or {})["ce-reason"]
    assert [model.name for model in await train_harness.models.list("t") if model.job] == [kept.name]
    assert left.name != kept.name
