"""Training an adapter of a tiny language model in one process."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from services.trainer.data.prompted import AnswerRow, read_answer_rows, read_preference_rows
from services.trainer.learning.dialogue import cite
from services.trainer.learning.task import Interrupted
from services.trainer.state import End
from shared.contracts.jobs import TrainSpec
from shared.contracts.models import AdapterBase
from shared.contracts.problems import Problem, ProblemType
from shared.stores.base_models import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE, fingerprint, read_base, write_base
from shared.stores.model_files import read_files
from tests.harness.adapters import answers, preferences
from tests.harness.learning import Lesson, learn
from tests.harness.tiny_model import make_model
from tests.harness.training import parquet_of

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> list[AnswerRow]:
    return as_rows(answers(last=16), tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[AnswerRow]:
    return as_rows(answers(first=16), tmp_path_factory.mktemp("rows"))


def as_rows(lines: list[dict[str, Any]], folder: Path) -> list[AnswerRow]:
    path = folder / "rows.parquet"
    path.write_bytes(parquet_of(lines))
    return read_answer_rows(path, "rows.parquet")


def spec(base: Path, **members: Any) -> TrainSpec:
    given = {"target": "adapter", "dataset": "d1", "base": str(base), "steps": 30, "batch": 8, "rank": 8}
    return TrainSpec(**(given | {"learning_rate": 5e-3, "validation": 0.5, "eval_steps": 10} | members))


def digest(lesson: Lesson) -> str:
    """Of all files of an adapter."""
    paths = sorted(path for path in lesson.folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in paths)).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, taught: list[AnswerRow], asked: list[AnswerRow]
) -> Lesson:
    folder = tmp_path_factory.mktemp("undisturbed")
    return learn(spec(tiny_model), str(tiny_model), taught, asked, folder / "a")


def test_it_learns_to_answer_what_it_was_not_asked_in_training(undisturbed: Lesson) -> None:
    assert undisturbed.learned is not None
    figures = undisturbed.learned.metrics
    assert figures["perplexity_after"] < figures["perplexity_before"] / 4
    assert undisturbed.state.end is End.STEPS
    assert sorted(undisturbed.saved) == [10, 20, 30]
    assert '"validation_perplexity"' in undisturbed.printed


def test_its_files_are_an_adapter_of_the_store_that_names_its_model(undisturbed: Lesson, tiny_model: Path) -> None:
    names = [file.path for file in read_files(undisturbed.folder)]
    assert names == sorted([ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE])
    assert read_base(undisturbed.folder) == AdapterBase(name=tiny_model.name, fingerprint=fingerprint(tiny_model))
    config = json.loads((undisturbed.folder / ADAPTER_CONFIG).read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (8, tiny_model.name)


def test_a_training_that_goes_on_from_a_checkpoint_makes_the_same_adapter(
    undisturbed: Lesson, tmp_path: Path, tiny_model: Path, taught: list[AnswerRow], asked: list[AnswerRow]
) -> None:
    for step in (10, 30):
        saved = undisturbed.saved[step]
        again = learn(spec(tiny_model), str(tiny_model), taught, asked, tmp_path / str(step), resumed=saved)
        assert digest(again) == digest(undisturbed)


def test_a_checkpoint_holds_the_adapter_alone(undisturbed: Lesson) -> None:
    names = {path.name for path in undisturbed.saved[20].iterdir()}
    assert ADAPTER_WEIGHTS in names
    assert not names & {"model.safetensors", "training_args.bin"}


def test_one_that_is_asked_to_end_goes_on_from_where_it_was(
    undisturbed: Lesson, tmp_path: Path, tiny_model: Path, taught: list[AnswerRow], asked: list[AnswerRow]
) -> None:
    saved: dict[int, Path] = {}
    with pytest.raises(Interrupted):
        learn(spec(tiny_model), str(tiny_model), taught, asked, tmp_path / "a", stop_at=10, saved=saved)
    again = learn(spec(tiny_model), str(tiny_model), taught, asked, tmp_path / "b", resumed=saved[max(saved)])
    assert digest(again) == digest(undisturbed)


def test_a_step_in_parts_is_nearly_the_same_as_one_at_once(
    undisturbed: Lesson,
    tmp_path: Path,
    tiny_model: Path,
    taught: list[AnswerRow],
    asked: list[AnswerRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.trainer.learning.adapter.TOKENS_AT_ONCE", 2048)
    parts = learn(spec(tiny_model), str(tiny_model), taught, asked, tmp_path / "a")
    assert parts.learned is not None
    assert undisturbed.learned is not None
    ratio = parts.learned.metrics["perplexity_after"] / undisturbed.learned.metrics["perplexity_after"]
    assert 0.5 < ratio < 2


def test_corrected_answers_become_the_likelier_ones(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet_of(preferences()))
    rows = read_preference_rows(path, "rows.parquet")
    chosen = spec(tiny_model, loss="dpo", learning_rate=2e-3)
    lesson = learn(chosen, str(tiny_model), rows[:16], rows[16:], tmp_path / "a")
    assert lesson.learned is not None
    figures = lesson.learned.metrics
    assert figures["accuracy_before"] < 0.5, "else there is nothing to learn"
    assert figures["accuracy_after"] == 1.0
    assert '"validation_accuracy":1.0' in lesson.printed
    again = learn(chosen, str(tiny_model), rows[:16], rows[16:], tmp_path / "b", resumed=lesson.saved[20])
    assert digest(again) == digest(lesson)


def test_it_goes_on_from_an_adapter_of_the_same_model(
    undisturbed: Lesson, tmp_path: Path, tiny_model: Path, taught: list[AnswerRow], asked: list[AnswerRow]
) -> None:
    chosen = spec(tiny_model, adapter="m-0123456789ab", steps=2, validation=0.0)
    more = learn(chosen, str(tiny_model), taught, asked, tmp_path / "a", adapter=undisturbed.folder)
    assert more.learned is not None
    assert undisturbed.learned is not None
    assert more.learned.metrics["perplexity_before"] == undisturbed.learned.metrics["perplexity_after"]


def test_an_adapter_of_another_model_is_refused(
    tmp_path: Path, undisturbed: Lesson, taught: list[AnswerRow], asked: list[AnswerRow]
) -> None:
    other = make_model(tmp_path / "other", seed=7)
    chosen = spec(other, adapter="m-0123456789ab")
    with pytest.raises(Problem, match="was trained for the model") as caught:
        learn(chosen, str(other), taught, asked, tmp_path / "a", adapter=undisturbed.folder)
    assert caught.value.kind is ProblemType.INVALID_REQUEST


def test_rows_that_do_not_fit_are_left_out_and_none_is_a_problem(
    tmp_path: Path, tiny_model: Path, taught: list[AnswerRow], asked: list[AnswerRow]
) -> None:
    long = as_rows([{**answers()[0], "answer": "It is here. " * 300}], tmp_path)
    lesson = learn(spec(tiny_model, steps=1), str(tiny_model), [*taught, *long], asked, tmp_path / "a")
    assert "1 rows are left out" in lesson.printed
    with pytest.raises(Problem, match="Make `max_tokens` greater"):
        learn(spec(tiny_model, max_tokens=64), str(tiny_model), taught, asked, tmp_path / "b")


def test_a_base_without_a_chat_template_or_that_is_none_is_refused(
    tmp_path: Path, taught: list[AnswerRow], asked: list[AnswerRow]
) -> None:
    with pytest.raises(Problem, match="no language model 'nobody/nothing'"):
        learn(spec(tmp_path), "nobody/nothing", taught, asked, tmp_path / "a")
    plain = make_model(tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(Problem, match="no chat template"):
        learn(spec(plain), str(plain), taught, asked, tmp_path / "b")
    (plain / "model.safetensors").unlink()
    with pytest.raises(Problem, match="no weights as safetensors"):
        learn(spec(plain), str(plain), taught, asked, tmp_path / "c")


def test_answers_cite_what_their_own_prompt_shows() -> None:
    assert cite("The tower is high [3]. It is old [1, 4].", (2,)) == "The tower is high. It is old. [2]"
    assert cite("Nobody knows [1].", ()) == "Nobody knows."
    assert cite("In 1999 [sic] it fell.", (1, 2)) == "In 1999 [sic] it fell. [1][2]"


def test_a_fingerprint_is_that_of_the_weights_wherever_they_lie(tmp_path: Path, tiny_model: Path) -> None:
    same, other = make_model(tmp_path / "same"), make_model(tmp_path / "other", seed=1)
    assert fingerprint(same) == fingerprint(tiny_model) != fingerprint(other)
    (same / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(Problem, match="not a safetensors file"):
        fingerprint(same)


def test_an_adapter_that_names_no_model_as_it_should_is_refused(tmp_path: Path) -> None:
    assert read_base(tmp_path) is None
    write_base(tmp_path, AdapterBase(name="tiny", fingerprint="0" * 64))
    assert read_base(tmp_path) is not None
    (tmp_path / BASE).write_text('{"fingerprint": "../../etc"}')
    with pytest.raises(Problem, match="does not name a model"):
        read_base(tmp_path)
