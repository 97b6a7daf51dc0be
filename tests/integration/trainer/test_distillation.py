"""Learning from a teacher's scores, in one process."""

from pathlib import Path
from typing import Any

import pytest

from services.trainer.data.rows import Row
from services.trainer.learning.task import Interrupted
from shared.contracts.jobs import Loss, TrainSpec
from shared.contracts.problems import Problem, ProblemType
from tests.harness.learning import as_rows, digest, learn
from tests.harness.training import make_bert, ruled_rows

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distillation")


@pytest.fixture(scope="module")
def bert(folder: Path) -> str:
    return str(make_bert(folder / "tiny", dropout=0.1))


@pytest.fixture(scope="module")
def taught(folder: Path) -> list[Row]:
    """What answers tells where something lies: a rule that models of this size can find in some steps."""
    return as_rows(ruled_rows(), folder / "train")


@pytest.fixture(scope="module")
def reversed_rows(taught: list[Row]) -> list[Row]:
    """The same with a wrong passage in the place of the right one: only a teacher can say so."""
    return [
        Row(
            question=row.question,
            positive=row.negatives[0],
            negatives=(row.positive, *row.negatives[1:]),
            documents=row.documents,
        )
        for row in taught
    ]


@pytest.fixture(scope="module")
def teacher(folder: Path, bert: str, taught: list[Row]) -> Path:
    """A reranker that knows the rule."""
    chosen = spec(target="reranker", loss=Loss.CROSS_ENTROPY, batch=24, learning_rate=2e-3, teacher="", steps=120)
    lesson = learn(chosen, bert, taught, [], folder / "teacher")
    assert reranks_right(lesson.folder, taught) == 1
    return lesson.folder


def spec(**members: Any) -> TrainSpec:
    given = {
        "target": "embedder",
        "dataset": "d1",
        "steps": 60,
        "batch": 12,
        "learning_rate": 5e-3,
        "negatives": 2,
        "teacher": "m-0123456789ab",
    }
    return TrainSpec(**(given | members))


def reranks_right(model: Path, rows: list[Row]) -> float:
    """The share of rows whose right passage a reranker puts before their negatives."""
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(str(model), device="cpu")
    found = [
        encoder.predict([(row.question, text) for text in (row.positive, *row.negatives)], show_progress_bar=False)
        for row in rows
    ]
    return sum(bool(scores[0] > max(scores[1:])) for scores in found) / len(rows)


def embeds_right(model: Path, rows: list[Row], dimensions: int | None = None) -> float:
    """The share of rows whose right passage an embedder has nearer to the question than their negatives."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model), device="cpu", truncate_dim=dimensions)
    found = [
        encoder.similarity(
            encoder.encode([row.question], show_progress_bar=False),
            encoder.encode([row.positive, *row.negatives], show_progress_bar=False),
        )[0]
        for row in rows
    ]
    return sum(bool(scores[0] > max(scores[1:])) for scores in found) / len(rows)


@pytest.mark.parametrize("loss", [Loss.KL_DIVERGENCE, Loss.MARGIN_MSE])
def test_an_embedder_learns_what_its_teacher_knows_and_the_rows_do_not(
    loss: Loss, tmp_path: Path, bert: str, reversed_rows: list[Row], taught: list[Row], teacher: Path
) -> None:
    lesson = learn(spec(loss=loss, validation=0), bert, reversed_rows, [], tmp_path / "a", teacher=teacher)
    assert embeds_right(lesson.folder, taught) > 0.95


def test_a_reranker_learns_what_its_teacher_knows_and_the_rows_do_not(
    tmp_path: Path, bert: str, reversed_rows: list[Row], taught: list[Row], teacher: Path
) -> None:
    chosen = spec(target="reranker", batch=24, learning_rate=2e-3, steps=120, validation=0)
    lesson = learn(chosen, bert, reversed_rows, [], tmp_path / "a", teacher=teacher)
    assert reranks_right(lesson.folder, taught) > 0.95


def test_the_first_dimensions_learn_from_a_teacher_too(
    tmp_path: Path, bert: str, reversed_rows: list[Row], taught: list[Row], teacher: Path
) -> None:
    chosen = spec(matryoshka=(16, 8), temperature=0.1, validation=0)
    lesson = learn(chosen, bert, reversed_rows, [], tmp_path / "a", teacher=teacher)
    assert embeds_right(lesson.folder, taught, dimensions=8) > 0.95


@pytest.mark.parametrize("members", [{"loss": "kl-divergence"}, {"target": "reranker", "batch": 24}])
def test_a_try_that_was_cut_off_goes_on_with_the_scores_that_were_kept(
    members: dict[str, Any],
    tmp_path: Path,
    bert: str,
    taught: list[Row],
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.trainer.learning.teacher.BLOCK", 16)
    chosen = spec(steps=20, eval_steps=10, **members)
    whole: list[bytes] = []
    undisturbed = learn(chosen, bert, taught, taught, tmp_path / "whole", teacher=teacher, scores=whole)
    kept: list[bytes] = []
    with pytest.raises(Interrupted):
        learn(chosen, bert, taught, taught, tmp_path / "a", teacher=teacher, scores=kept, stop_while_scoring=True)
    assert 0 < len(kept[-1]) < len(whole[-1])
    assert whole[-1].startswith(kept[-1])
    again = learn(chosen, bert, taught, taught, tmp_path / "b", teacher=teacher, scores=kept)
    assert kept[-1] == whole[-1]
    assert digest(again) == digest(undisturbed)
    resumed = learn(
        chosen, bert, taught, taught, tmp_path / "c", teacher=tmp_path, scores=kept, resumed=undisturbed.saved[10]
    )
    assert digest(resumed) == digest(undisturbed)  # and without the teacher, whose scores are all there


def test_scores_of_other_pairs_are_not_taken(
    tmp_path: Path, bert: str, taught: list[Row], reversed_rows: list[Row], teacher: Path
) -> None:
    kept: list[bytes] = []
    learn(spec(steps=1), bert, taught[:40], [], tmp_path / "a", teacher=teacher, scores=kept)
    with pytest.raises(Problem, match="does not score pairs"):
        learn(spec(steps=1), bert, taught[:50], [], tmp_path / "b", teacher=Path(bert), scores=kept)


def test_an_embedder_is_not_a_teacher(tmp_path: Path, bert: str, taught: list[Row]) -> None:
    with pytest.raises(Problem, match="does not score pairs of texts: name a cross-encoder") as caught:
        learn(spec(), bert, taught, taught, tmp_path / "a", teacher=Path(bert))
    assert caught.value.kind is ProblemType.INVALID_REQUEST


def test_scores_that_are_not_numbers_are_a_problem(tmp_path: Path, bert: str, taught: list[Row], teacher: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(teacher), device="cpu")
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    model.save_pretrained(str(tmp_path / "broken"), create_model_card=False)
    with pytest.raises(Problem, match="score of the teacher is not a number") as caught:
        learn(spec(), bert, taught, taught, tmp_path / "a", teacher=tmp_path / "broken")
    assert caught.value.kind is ProblemType.TRAINING_FAILED
