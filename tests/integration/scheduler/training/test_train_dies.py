"""Whatever is killed in the middle of a training, the job makes the model that it would have made."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from shared.contracts.jobs import Job, TrainSpec
from tests.harness import adapters
from tests.harness.broker import NatsServer
from tests.harness.command_harness import WorkerProcess
from tests.harness.paths import PROGRAMS
from tests.harness.stage_harness import until
from tests.harness.training import ASKED, TrainHarness, make_bert, open_train_harness, rows

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

PATIENCE = 300.0


@pytest.fixture
async def train_harness(own_broker: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TrainHarness]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with open_train_harness(own_broker.url) as harness:
        yield harness


def trainers(job: str) -> list[int]:
    """The processes that train for a job."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"services.trainer" in command and f"SLUICE_JOB={job}\0".encode() in environment:
            found.append(int(folder.name))
    return found


def while_away(ask: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """Nothing, while the broker does not answer."""

    async def asked() -> Any:
        try:
            return await ask()
        except (NatsError, TimeoutError):
            return None

    return asked


async def test_a_trainer_of_an_adapter_is_killed_and_the_adapter_is_the_same(
    own_broker: NatsServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with open_train_harness(own_broker.url, training_bases=str(tiny_model)) as harness:
        await harness.put_files(answers=adapters.answers(last=16), test_answers=adapters.answers(first=16))
        given = {"target": "adapter", "steps": 100, "eval_steps": 5, "validation": 0.5, "patience": None}
        undisturbed = await harness.trains(harness.spec(str(tiny_model), **given), "whole")
        await harness.submit(harness.spec(str(tiny_model), **given), "killed")

        async def saved() -> bool:
            return bool(await harness.checkpoints.list("t", "killed"))

        async with harness.working():
            await until(saved, "a checkpoint", patience=PATIENCE)
            (trainer,) = trainers("killed")
            os.kill(trainer, signal.SIGKILL)
            job = await harness.ended("killed")
        assert job.error is None
        assert job.attempt == 2
        assert job.outputs | {"seconds": 0} == undisturbed.outputs | {"seconds": 0}


async def test_trainer_scheduler_and_broker_are_killed_and_the_model_is_the_same(
    train_harness: TrainHarness, own_broker: NatsServer, tmp_path: Path
) -> None:
    await train_harness.put_rows(rows(asked=ASKED[:5]), rows(asked=ASKED[5:]))
    base = await train_harness.put_base(make_bert(tmp_path / "tiny", dropout=0.1))

    def spec(description: str) -> TrainSpec:
        return train_harness.spec(base, steps=300, eval_steps=20, patience=None, description=description)

    async def checkpoint_after(step: int) -> int:
        @while_away
        async def newest() -> int:
            found = await train_harness.checkpoints.list("t", "killed")
            return found[0].step if found and found[0].step > step else 0

        return int(await until(newest, f"a checkpoint after step {step}", patience=PATIENCE))

    undisturbed = await train_harness.trains(spec("undisturbed"), "whole")
    await train_harness.submit(spec("killed"), "killed")
    with WorkerProcess(own_broker.url, PROGRAMS / "train_worker.py") as worker:
        step = await checkpoint_after(0)
        (trainer,) = trainers("killed")
        os.kill(trainer, signal.SIGKILL)
        step = await checkpoint_after(step)
        worker.kill()
    async with train_harness.working():
        step = await checkpoint_after(step)
        own_broker.kill()
        own_broker.start()

        @while_away
        async def ended() -> Job | None:
            found = await train_harness.job("killed")
            return found if found.state.ended else None

        job: Job = await until(ended, "the job ended", patience=PATIENCE)
    assert job.error is None
    assert job.outputs | {"seconds": 0} == undisturbed.outputs | {"seconds": 0}
    assert (job.attempt, job.crashes) == (2, 1)
    model = await train_harness.models.get("t", str(job.outputs["model"]))
    assert model.job == "whole"
    assert [one.name for one in await train_harness.models.list("t")].count(model.name) == 1
    assert await train_harness.checkpoints.list("t", "killed") == []


async def test_a_trainer_is_killed_while_its_teacher_scores_and_the_model_is_the_same(
    train_harness: TrainHarness, tmp_path: Path
) -> None:
    lines = rows(asked=ASKED[:5], negatives=20)
    await train_harness.put_rows(lines, [])
    base = await train_harness.put_base(make_bert(tmp_path / "tiny", dropout=0.1))
    taught = await train_harness.trains(train_harness.spec(base, target="reranker", steps=10), "teacher")
    given = {"teacher": str(taught.outputs["model"]), "negatives": 20, "steps": 60}
    undisturbed = await train_harness.trains(train_harness.spec(base, **given), "whole")
    await train_harness.submit(train_harness.spec(base, **given), "killed")

    async def scored() -> bool:
        return await train_harness.checkpoints.scores("t", "killed") is not None

    async with train_harness.working():
        await until(scored, "scores that are kept", patience=PATIENCE)
        (trainer,) = trainers("killed")
        os.kill(trainer, signal.SIGKILL)
        job = await train_harness.ended("killed")
    assert job.error is None
    assert job.attempt == 2
    assert job.outputs | {"seconds": 0} == undisturbed.outputs | {"seconds": 0}
    assert await train_harness.checkpoints.scores("t", "killed") is None
