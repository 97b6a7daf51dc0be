import pytest

from services.scheduler.evaluation.questions import Question
from services.scheduler.tuning.halves import FEWEST, halves
from services.scheduler.tuning.search import Trial, best, propose
from services.scheduler.tuning.verdict import verdict
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import RetrievalOptions, SearchMode


def _questions(count: int) -> list[Question]:
    return [Question(question=f"What is part {n}?", sources=("parts.md",)) for n in range(count)]


def _score(options: RetrievalOptions) -> float:
    """Highest for a hybrid search that weighs meaning by 0.8."""
    weight = options.dense_weight if options.dense_weight is not None else 0.0
    return 1 - abs(weight - 0.8) - (options.diversity or 0) / 10


def _searched(count: int, seed: int, earlier: list[Trial] | None = None) -> list[Trial]:
    trials = list(earlier or [])
    while len(trials) < count:
        options = propose(trials, seed)
        trials.append(Trial(options=options, score=_score(options)))
    return trials


def test_each_question_is_in_one_half_whatever_the_file() -> None:
    questions = _questions(200)
    tuned, held_out = halves(questions)
    assert sorted([*tuned, *held_out], key=questions.index) == questions
    again, _ = halves(questions[::-1][:150])
    assert {one.question for one in again} <= {one.question for one in tuned}


def test_a_repeated_question_is_in_one_half() -> None:
    shouted = [Question(question=f"  WHAT is part  {n}? ", sources=("parts.md",)) for n in range(200)]
    for half, other in zip(halves(_questions(200)), halves(shouted), strict=True):
        assert [one.question.casefold() for one in half] == [" ".join(one.question.casefold().split()) for one in other]


@pytest.mark.parametrize("questions", [_questions(FEWEST), _questions(1) * 200])
def test_too_few_questions_are_a_problem(questions: list[Question]) -> None:
    with pytest.raises(Problem, match="at least 20 different questions in each half") as caught:
        halves(questions)
    assert caught.value.kind is ProblemType.INVALID_REQUEST


def test_a_resumed_search_is_the_uninterrupted_one() -> None:
    whole = _searched(25, seed=7)
    half = [Trial.model_validate_json(trial.model_dump_json()) for trial in whole[:12]]
    assert _searched(25, seed=7, earlier=half) == whole


def test_the_seed_decides_and_the_search_finds_the_better_setting() -> None:
    trials = _searched(40, seed=1)
    assert trials != _searched(40, seed=2)
    found = best(trials)
    assert found.options.mode is SearchMode.HYBRID
    assert found.options.dense_weight == pytest.approx(0.8, abs=0.15)


def test_of_equal_scores_the_earliest_is_best() -> None:
    first, second = (Trial(options=RetrievalOptions(diversity=share), score=0.5) for share in (0.1, 0.2))
    assert best([first, second]) is first


def test_better_only_where_the_whole_interval_is_above_zero() -> None:
    assert verdict([0.5] * 40, [0.7] * 40).better
    unsure = verdict([0.5] * 40, [1.0, 0.1] * 20)
    assert unsure.difference.mean > 0
    assert not unsure.better
    assert unsure.text.startswith("not better than the default on held-out questions")
