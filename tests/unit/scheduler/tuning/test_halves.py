import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.evaluation.questions import Question
from services.scheduler.tuning.halves import FEWEST, halves
from shared.contracts.problems import Problem, ProblemType


def _questions(count: int) -> list[Question]:
    return [Question(question=f"What is part {n}?", sources=(f"part-{n}.md",)) for n in range(count)]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


documents = st.integers(0, 400).map("d{}".format)
few_words = st.sampled_from(["Who", "who ", "WHAT", "what", "Where is it", "where  is it", "why"])
questions = st.builds(
    lambda words, number, sources: Question(question=f"{words} {number}?", sources=tuple(sources)),
    few_words,
    st.integers(0, 200),
    st.lists(documents, min_size=1, max_size=2),
)


@given(st.lists(questions, max_size=40))
def test_nothing_of_the_held_out_half_is_in_the_other(some: list[Question]) -> None:
    made = halves([*_questions(120), *some])
    sources = [{document for one in half for document in one.sources} for half in (made.tuned, made.held_out)]
    texts = [{_folded(one.question) for one in half} for half in (made.tuned, made.held_out)]
    assert not sources[0] & sources[1]
    assert not texts[0] & texts[1]
    assert len(made.tuned) + len(made.held_out) == 120 + len(some)


def test_each_question_is_in_one_half_whatever_the_file() -> None:
    whole = halves(_questions(200))
    assert sorted([*whole.tuned, *whole.held_out], key=_questions(200).index) == _questions(200)
    part = halves(_questions(200)[::-1][:150])
    assert {one.question for one in part.tuned} <= {one.question for one in whole.tuned}


@pytest.mark.parametrize(
    "questions",
    [
        _questions(FEWEST),
        [Question(question=f"What is part {n}?", sources=("parts.md",)) for n in range(400)],
        [Question(question="What is it?", sources=(f"part-{n}.md",)) for n in range(400)],
    ],
)
def test_a_set_that_is_too_small_says_what_to_add(questions: list[Question]) -> None:
    with pytest.raises(Problem, match=r"each half needs 20\. Add questions with the 'sources'") as caught:
        halves(questions)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
