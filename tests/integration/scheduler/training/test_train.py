"""Training as a job: a process trains a tiny model on the rows of a data set and publishes it."""

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest

from services.embedder.model.hardware import Device, Dtype
from services.embedder.model.model import EmbeddingModel, ModelConfig
from shared.contracts.jobs import JobState, Loss
from shared.contracts.models import ModelKind
from tests.harness.adapters import answers, preferences
from tests.harness.broker import NatsServer
from tests.harness.training import ASKED, TrainHarness, make_bert, open_train_harness, parquet, rows

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture
async def train_harness(broker: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TrainHarness]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more threads only wait for each other at this size
    async with open_train_harness(broker.url) as harness:
        yield harness


async def test_an_embedder_is_trained_and_published(train_harness: TrainHarness, bert: Path, tmp_path: Path) -> None:
    await train_harness.put_rows(rows(asked=ASKED[:5]), rows(asked=ASKED[5:]))
    base = await train_harness.put_base(bert)
    job = await train_harness.trains(train_harness.spec(base, epochs=8))
    outputs = job.outputs
    assert outputs["ndcg_after"] > outputs["ndcg_before"] + 0.2
    model = await train_harness.models.get("t", str(outputs["model"]))
    assert (model.kind, model.base, model.dataset, model.job) == (ModelKind.EMBEDDER, base, "5eed", "j1")
    assert (model.hash, model.dimensions) == (outputs["hash"], 32)
    await train_harness.models.fetch("t", model.name, tmp_path / "m")
    EmbeddingModel.load(ModelConfig(name=str(tmp_path / "m"), device=Device.CPU, dtype=Dtype.FLOAT32))
    assert await train_harness.checkpoints.list("t", "j1") == []
    assert job.state is JobState.SUCCEEDED


@pytest.mark.parametrize("loss", ["sft", "dpo"])
async def test_an_adapter_is_trained_and_published(
    broker: NatsServer, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with open_train_harness(broker.url, training_bases=str(tiny_model)) as harness:
        await harness.put_files(answers=answers(last=16), test_answers=answers(first=16))
        await harness.put_files(preferences=preferences(last=16), test_preferences=preferences(first=16))
        spec = harness.spec(str(tiny_model), target="adapter", loss=loss, steps=20, negatives=4)
        job = await harness.trains(spec)
        if loss == "sft":
            assert job.outputs["perplexity_after"] < job.outputs["perplexity_before"] / 2
        else:
            assert job.outputs["accuracy_after"] > job.outputs["accuracy_before"]
        model = await harness.models.get("t", str(job.outputs["model"]))
        assert (model.kind, model.base, model.dataset, model.job) == (ModelKind.ADAPTER, "tiny", "5eed", "j1")
        assert [file.path for file in model.files] == ["adapter_config.json", "adapter_model.safetensors", "base.json"]
        more = await harness.trains(spec.model_copy(update={"adapter": model.name, "steps": 1}), "j2")
        name = "perplexity" if loss == "sft" else "accuracy"
        assert more.outputs[f"{name}_before"] == job.outputs[f"{name}_after"]


@pytest.mark.parametrize("loss", ["sft", "dpo"])
async def test_two_processes_train_an_adapter_as_one(
    broker: NatsServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with open_train_harness(broker.url, training_bases=str(tiny_model)) as harness:
        await harness.put_files(answers=answers(last=16), test_answers=answers(first=16))
        await harness.put_files(preferences=preferences(last=16), test_preferences=preferences(first=16))
        given = {"target": "adapter", "loss": loss, "steps": 10, "eval_steps": 5, "validation": 0.5, "processes": 2}
        job = await harness.trains(harness.spec(str(tiny_model), **given))
        name = "perplexity" if loss == "sft" else "accuracy"
        gain = float(str(job.outputs[f"{name}_after"])) / max(float(str(job.outputs[f"{name}_before"])), 1e-9)
        assert (gain < 0.7) if loss == "sft" else (gain > 1)


async def test_what_an_adapter_may_not_begin_with_is_refused(broker: NatsServer, tiny_model: Path, bert: Path) -> None:
    async with open_train_harness(broker.url, training_bases=str(tiny_model)) as harness:
        await harness.put_files(answers=answers(last=16), test_answers=answers(first=16))
        embedder = await harness.put_base(bert)
        spec = harness.spec(str(tiny_model), target="adapter", adapter=embedder)
        for number, (tried, says) in enumerate(
            [
                (spec, "is of the kind 'embedder', and not an adapter"),
                (spec.model_copy(update={"adapter": "m-0123456789ab"}), "no model 'm-0123456789ab'"),
                (spec.model_copy(update={"adapter": "", "base": str(bert)}), "SLUICE_TRAINING_BASES"),
                (spec.model_copy(update={"adapter": "", "loss": Loss.DPO}), "d1/preferences.parquet"),
            ]
        ):
            job = await harness.run(tried, f"j{number}")
            assert job.error is not None
            assert says in job.error.detail


async def test_two_processes_train_as_one_with_the_whole_batch(train_harness: TrainHarness, bert: Path) -> None:
    # 24 questions of one kind, so no batch holds two passages that answer the same one.
    lines = rows(asked=ASKED[:1])
    await train_harness.put_rows(lines, lines)
    base = await train_harness.put_base(bert)
    given = {"batch": 12, "epochs": 6, "validation": 0.0, "learning_rate": 1e-3, "negatives": 0}
    one = await train_harness.trains(train_harness.spec(base, **given), "one")
    two = await train_harness.trains(train_harness.spec(base, processes=2, **given), "two")
    assert one.outputs["steps"] == two.outputs["steps"] == 12
    assert two.outputs["loss"] == pytest.approx(one.outputs["loss"], rel=1e-3)
    assert two.outputs["ndcg_after"] == pytest.approx(one.outputs["ndcg_after"], abs=1e-3)


async def trained_reranker(harness: TrainHarness, base: str) -> str:
    """A reranker of the store, to learn from."""
    spec = harness.spec(base, target="reranker", steps=10, learning_rate=2e-3, validation=0.0)
    return str((await harness.trains(spec, "teacher")).outputs["model"])


@pytest.mark.parametrize("members", [{"loss": "kl-divergence"}, {"loss": "margin-mse"}, {"target": "reranker"}])
async def test_two_processes_learn_from_a_teacher_as_one(
    train_harness: TrainHarness, bert: Path, members: dict[str, str]
) -> None:
    lines = rows(asked=ASKED[:2], negatives=2)
    await train_harness.put_rows(lines, lines)
    base = await train_harness.put_base(bert)
    teacher = await trained_reranker(train_harness, base)
    given = {"batch": 12, "epochs": 2, "validation": 0.0, "learning_rate": 1e-3, "teacher": teacher, **members}
    one = await train_harness.trains(train_harness.spec(base, **given), "one")
    two = await train_harness.trains(train_harness.spec(base, processes=2, **given), "two")
    assert one.outputs["steps"] == two.outputs["steps"] > 0
    assert two.outputs["loss"] == pytest.approx(one.outputs["loss"], rel=1e-3)
    assert two.outputs["ndcg_after"] == pytest.approx(one.outputs["ndcg_after"], abs=1e-3)
    assert await train_harness.checkpoints.scores("t", "two") is None
    log = await train_harness.log("two")
    assert "the teacher has scored" in log


async def test_what_may_not_teach_is_refused(train_harness: TrainHarness, bert: Path) -> None:
    await train_harness.put_rows(rows(asked=ASKED[:1]), [])
    base = await train_harness.put_base(bert)
    for number, (teacher, says) in enumerate(
        [
            (base, "is of the kind 'embedder', and a `teacher` is a reranker"),
            ("m-0123456789ab", "no model 'm-0123456789ab'"),
            (str(bert), "Training may not learn from"),
        ]
    ):
        job = await train_harness.run(train_harness.spec(base, teacher=teacher), f"j{number}")
        assert job.error is not None
        assert says in job.error.detail
        assert job.attempt == 1


async def test_a_teacher_may_be_a_model_that_is_allowed(
    broker: NatsServer, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with open_train_harness(broker.url, training_bases=str(tmp_path)) as harness:
        await harness.put_rows(rows(asked=ASKED[:1]), [])
        base = await harness.put_base(bert)
        await harness.models.fetch("t", await trained_reranker(harness, base), tmp_path / "reranker")
        spec = harness.spec(base, teacher=str(tmp_path / "reranker"), steps=2)
        assert (await harness.trains(spec)).outputs["steps"] == 2


def parquet_of(**columns: list[object]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PAR1 and no more", "cannot be read as a Parquet file"),
        (parquet_of(question=["q"], positive=["p"]), "has no column negatives, documents"),
        (parquet_of(question=[1], positive=["p"], negatives=[["n"]], documents=[["d"]]), "question is int64"),
        (parquet([]), "has no rows"),
    ],
)
async def test_a_data_set_that_cannot_be_trained_on_says_so(
    train_harness: TrainHarness, bert: Path, content: bytes, says: str
) -> None:
    await train_harness.put_rows([], [])
    await train_harness.artifacts.put("t", "d1/train.parquet", content)
    spec = train_harness.spec(await train_harness.put_base(bert))
    job = await train_harness.run(spec)
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error is not None
    assert job.error.type.endswith("invalid-request")
    assert says in job.error.detail


async def test_a_data_set_that_is_not_there_is_named(train_harness: TrainHarness) -> None:
    job = await train_harness.run(train_harness.spec(dataset="nowhere"))
    assert job.error is not None
    assert job.error.type.endswith("not-found")
    assert "nowhere/train.parquet" in job.error.detail


async def test_training_that_is_off_or_lacks_packages_is_refused_at_once(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_train_harness(broker.url, training="off") as harness:
        await harness.put_rows(rows(), rows())
        job = await harness.run(harness.spec())
        assert job.error is not None
        assert "SLUICE_TRAINING=off" in job.error.detail
    monkeypatch.setattr("services.scheduler.training.checks.missing_packages", lambda: ["torch"])
    async with open_train_harness(broker.url) as harness:
        job = await harness.run(harness.spec(), job="j2")
        assert job.error is not None
        assert job.error.type.endswith("training-refused")
        assert "pip install 'sluice[train]'" in job.error.detail
