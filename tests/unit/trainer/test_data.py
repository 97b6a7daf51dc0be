"""The data set's parts, the figures, and the end of a training: pure functions of the trainer."""

import json
import math
from io import StringIO

import pytest

from services.trainer.data.rows import Row
from services.trainer.data.validation import split_rows
from services.trainer.launch import torchrun
from services.trainer.learning.ranking import make_quiz, mean_ndcg
from services.trainer.reporter import Reporter
from services.trainer.state import TrainingState
from shared.contracts.jobs import TrainSpec
from shared.contracts.training import METRICS, ORDER, TrainingOrder


def row(question: str, *documents: str, positive: str = "", negatives: tuple[str, ...] = ()) -> Row:
    return Row(question=question, positive=positive or f"of {question}", negatives=negatives, documents=documents)


def test_validation_shares_no_document_and_no_question_with_the_rest() -> None:
    rows = [row(f"q{n}", f"d{n // 2}", f"e{n // 4}") for n in range(200)]
    split = split_rows(rows, 0.2, seed=1)
    assert 30 <= len(split.validation) <= 48
    assert len(split.train) + len(split.validation) == 200
    documents = [{name for one in part for name in one.documents} for part in (split.train, split.validation)]
    assert not documents[0] & documents[1]


def test_validation_is_the_same_however_rows_are_ordered_and_another_by_another_seed() -> None:
    rows = [row(f"q{n}", f"d{n}") for n in range(100)]
    first = {one.question for one in split_rows(rows, 0.2, seed=1).validation}
    assert first == {one.question for one in split_rows(rows[::-1], 0.2, seed=1).validation}
    assert first != {one.question for one in split_rows(rows, 0.2, seed=2).validation}


def test_rows_that_hang_together_are_all_trained_on() -> None:
    rows = [row(f"q{n}", f"d{n}", f"d{n + 1}") for n in range(100)]
    assert split_rows(rows, 0.2, seed=1).validation == []
    assert len(split_rows(rows, 0.2, seed=1).train) == 100


def test_few_rows_are_all_trained_on() -> None:
    assert split_rows([row(f"q{n}", f"d{n}") for n in range(20)], 0.2, seed=1).validation == []


def test_a_ranking_is_measured_by_its_first_ten() -> None:
    quiz = make_quiz([row("a", positive="p", negatives=("n",)), row("a", positive="p2"), row("b", positive="p3")])
    assert (quiz.questions, sorted(quiz.passages)) == (["a", "b"], ["n", "p", "p2", "p3"])
    assert mean_ndcg(quiz, lambda number: sorted(quiz.right[number])) == pytest.approx(1.0)
    assert mean_ndcg(quiz, lambda number: sorted(quiz.wrong[number])) == 0.0
    second = [[next(iter(quiz.wrong[0])), *sorted(quiz.right[0])], sorted(quiz.right[1])]
    expected = ((1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3)) + 1) / 2
    assert mean_ndcg(quiz, second.__getitem__) == pytest.approx(expected)


def test_the_best_look_has_the_best_score_and_of_these_the_least_loss() -> None:
    state = TrainingState()
    assert [state.look(n, score, loss) for n, score, loss in [(1, 0.5, 2.0), (2, 0.5, 1.0), (3, 0.4, 0.1)]] == [
        True,
        True,
        False,
    ]
    assert (state.best, state.since) == (2, 1)
    assert TrainingState.model_validate_json(state.model_dump_json()) == state


def test_a_metric_that_is_not_a_number_is_null() -> None:
    stream = StringIO()
    Reporter(stream=stream).metrics(3, {"loss": math.nan, "x": 1.0})
    assert json.loads(stream.getvalue().removeprefix(METRICS)) == {"step": 3, "values": {"loss": None, "x": 1.0}}


def order(processes: int) -> str:
    spec = TrainSpec(target="embedder", dataset="d1", processes=processes)
    return TrainingOrder(job="j1", tenant="t", spec=spec).model_dump_json()


def test_processes_of_one_machine_are_started_by_torchrun() -> None:
    assert torchrun({ORDER: order(1)}) is None
    assert torchrun({ORDER: order(2), "RANK": "0"}) is None
    command = torchrun({ORDER: order(2)})
    assert command is not None
    assert command[1:] == [
        *("-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "services.trainer")
    ]


def test_processes_of_several_machines_meet_at_the_first() -> None:
    nodes = {"SLUICE_TRAINING_NODES": "3", "JOB_COMPLETION_INDEX": "2", "SLUICE_JOB_HOST": "j-0.j", ORDER: order(3)}
    command = torchrun(nodes)
    assert command is not None
    assert {"--nnodes=3", "--nproc-per-node=1", "--node-rank=2", "--master-addr=j-0.j", "--master-port=29500"} < set(
        command
    )
    by_operator = torchrun({**nodes, "PET_NNODES": "3"})
    assert by_operator is not None
    assert by_operator[-2:] == ["-m", "services.trainer"]
    assert not any(option.startswith("--n") for option in by_operator)
