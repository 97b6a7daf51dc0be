"""Which kept questions are compared."""

from typing import Any

from services.scheduler.drift.question_samples import MOST_COLLECTIONS, QuestionSamples
from shared.contracts.kept_questions import KeptQuestion

NOW = 100 * 86_400.0
HOUR = 3600.0
DOCS = ("acme", "docs")


def kept(number: int, hours_ago: float, **members: Any) -> KeptQuestion:
    told = {"question": f"question {number}", "collection": "docs", "asked_at": NOW - hours_ago * HOUR, **members}
    return KeptQuestion.model_validate({"id": f"{number:016x}", **told})


def samples(*all_kept: KeptQuestion, most: int = 50) -> QuestionSamples:
    made = QuestionSamples({DOCS}, NOW, hours=24, days=7, most=most)
    for one in all_kept:
        made.add("acme", one)
    return made


def test_a_question_is_in_the_window_of_its_time() -> None:
    reference, recent = samples(*(kept(hours, hours) for hours in (1, 23, 25, 190, 193, 900))).found[DOCS]
    assert {one.text for one in recent.questions} == {"question 1", "question 23"}
    assert {one.text for one in reference.questions} == {"question 25", "question 190"}


def test_a_sample_is_bounded_and_changes_little_with_later_questions() -> None:
    first = samples(*(kept(number, 1) for number in range(500))).found[DOCS][1].questions
    later = samples(*(kept(number, 1) for number in range(510))).found[DOCS][1].questions
    assert len(first) == len(later) == 50
    assert len({one.id for one in first} & {one.id for one in later}) >= 40


def test_questions_that_are_not_understood_alone_count_only_as_rewritten() -> None:
    turns = ({"role": "user", "content": "Hello"},)
    given = (
        kept(1, 1, messages=turns),
        kept(2, 1, messages=turns, searched={"question": "How long is the warranty?"}),
        kept(3, 1, question=" "),
    )
    _, recent = samples(*given).found[DOCS]
    assert [one.text for one in recent.questions] == ["How long is the warranty?"]


def test_the_best_score_and_the_confidence_are_taken() -> None:
    sources = [{"index": 1, "document": "a", "text": "", "score": 0.3}, {"index": 2, "document": "b", "score": 0.7}]
    given = (kept(1, 1, sources=sources, confidence=0.9), kept(2, 1))
    _, recent = samples(*given).found[DOCS]
    assert {(one.best, one.confidence) for one in recent.questions} == {(0.7, 0.9), (None, None)}


def test_collections_that_are_not_known_or_too_many_are_left_out() -> None:
    known = {("acme", f"c{number}") for number in range(MOST_COLLECTIONS + 5)}
    made = QuestionSamples(known, NOW, hours=24, days=7, most=50)
    for number in range(MOST_COLLECTIONS + 10):
        made.add("acme", kept(number, 1, collection=f"c{number}"))
    made.add("acme", kept(1, 1, collection=""))
    made.add("other", kept(1, 1))
    assert len(made.found) == MOST_COLLECTIONS
    assert made.found.keys() <= known
