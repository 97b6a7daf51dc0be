from typing import Any

import pytest

from services.scheduler.datasets.examples import ExampleCollector, LeftOut, Origin, Source
from services.scheduler.evaluation.questions import Question
from shared.contracts.feedback import ReaderFeedback
from shared.contracts.problems import Problem
from sluice.api.feedback import Feedback, KeptAnswer


def said(question: str = "How long?", *, at: float = 1.0, answer: str = "a" * 16, **members: Any) -> ReaderFeedback:
    """What a reader says of an answer from four sources that cites the first two, as the gateway writes it."""
    kept = {
        "id": answer,
        "question": question,
        "answer": "12 months [1].",
        "collection": "docs",
        "sources": [{"index": n, "document": f"d{n}", "text": f"The passage {n}"} for n in range(1, 5)],
        "cited": [1, 2],
        **members.pop("kept", {}),
    }
    written = Feedback.model_validate(
        {"answer": answer, "reader": "ann", "kept": KeptAnswer.model_validate(kept), "changed_at": at, **members}
    )
    return ReaderFeedback.model_validate_json(written.model_dump_json(exclude_defaults=True))


def judged(**verdicts: bool) -> list[dict[str, Any]]:
    return [{"index": int(name[1:]), "relevant": relevant} for name, relevant in verdicts.items()]


def collected(*all_said: ReaderFeedback, questions: tuple[Question, ...] = (), **when: float) -> ExampleCollector:
    collector = ExampleCollector("docs")
    collector.add_set(questions)
    for one in all_said:
        collector.add_feedback(one, **when)
    return collector


def test_thumbs_up_makes_what_the_answer_cites_right_and_judgements_go_before() -> None:
    (example,) = collected(said(rating="up", sources=judged(_2=False, _3=True, _4=False))).examples()
    assert example.origin is Origin.FEEDBACK
    assert example.sources == (Source("d1", "The passage 1"), Source("d3", "The passage 3"))
    assert [source.document for source in example.wrong] == ["d2", "d4"]


def test_thumbs_down_alone_says_nothing_of_the_sources() -> None:
    collector = collected(said(rating="down"))
    assert collector.examples() == []
    assert collector.left_out == {LeftOut.NO_SOURCES: 1}


def test_a_document_with_a_right_passage_is_not_wrong() -> None:
    sources = [{"index": 1, "document": "d1", "text": "off"}, {"index": 2, "document": "d1", "text": "on"}]
    (example,) = collected(said(kept={"sources": sources}, sources=judged(_1=False, _2=True))).examples()
    assert (example.sources, example.wrong) == ((Source("d1", "on"),), ())


@pytest.mark.parametrize("order", [1, -1])
def test_the_later_reader_is_right_in_whatever_order_their_words_come(order: int) -> None:
    words = [
        said("How long?", at=1, sources=judged(_1=True, _2=True)),
        said("how  LONG?", at=2, answer="b" * 16, sources=judged(_1=False)),
    ]
    (example,) = collected(*words[::order]).examples()
    assert example.question == "How long?"
    assert [source.document for source in example.sources] == ["d2"]
    assert [source.document for source in example.wrong] == ["d1"]


def test_a_set_goes_before_readers_and_readers_before_a_model() -> None:
    questions = (
        Question(question="How long?", sources={"d1": 2, "d9": 1}, answer="24 months"),
        Question(question="How far?", sources=("d1",), synthetic=True, passage="The passage 1"),
        Question(question="How deep?", sources=("d5",), synthetic=True),
    )
    feedback = [said("How long?", sources=judged(_1=False)), said("How far?", sources=judged(_1=False, _3=True))]
    deep, far, long = collected(*feedback, questions=questions).examples()
    assert (long.origin, long.sources) == (Origin.QUESTIONS, (Source("d1", grade=2), Source("d9", grade=1)))
    assert (long.wrong, long.answer) == ((), "24 months")
    assert (far.origin, far.documents) == (Origin.FEEDBACK, ("d3",))
    assert (deep.origin, deep.is_synthetic) == (Origin.SYNTHETIC, True)


def test_a_correction_is_a_better_answer_than_the_one_that_was_given() -> None:
    words = said(rating="down", correction=" 24 months. ", sources=judged(_1=False))
    (example,) = collected(words).examples()
    (correction,) = example.corrections
    assert (correction.chosen, correction.rejected) == ("24 months.", "12 months [1].")
    assert [source.document for source in correction.sources] == ["d2", "d3", "d4"]
    assert (correction.about, example.connected, example.answer) == (("d2",), ("d2",), "24 months.")
    same = said(correction="12  months [1].", sources=judged(_1=True))
    assert collected(same).examples()[0].corrections == ()


def test_of_many_corrections_the_latest_stay() -> None:
    words = [said(at=n, answer=f"{n:016x}", correction=f"{n} months") for n in range(10)]
    (example,) = collected(*words[::-1]).examples()
    assert [one.chosen for one in example.corrections] == ["6 months", "7 months", "8 months", "9 months"]
    assert example.answer == "9 months"


def test_a_question_that_follows_up_counts_as_it_was_rewritten() -> None:
    turns = {"messages": [{"role": "user", "content": "What is a pump?"}]}
    rewritten = said("And its price?", rating="up", kept={**turns, "searched": {"question": "What does a pump cost?"}})
    collector = collected(rewritten, said("And its size?", rating="up", kept=turns))
    assert [one.question for one in collector.examples()] == ["What does a pump cost?"]
    assert collector.left_out == {LeftOut.NOT_STANDALONE: 1}


def test_only_what_was_said_of_the_collection_in_the_time_counts() -> None:
    elsewhere = said(rating="up", kept={"collection": "others"})
    shadow = said(rating="up", kept={"stage": "generate", "variant": "canary"})
    collector = collected(elsewhere, shadow, *(said(f"Q{n}?", at=n, rating="up") for n in range(5)), since=1, until=3)
    assert [one.question for one in collector.examples()] == ["Q1?", "Q2?", "Q3?"]
    assert collector.records == 3


def test_questions_without_sources_and_too_long_ones_are_counted() -> None:
    questions = (Question(question="What is Mars?", answerable=False), Question(question="x" * 5000, sources=("d1",)))
    collector = collected(questions=questions)
    assert collector.examples() == []
    assert collector.left_out == {LeftOut.NO_SOURCES: 1, LeftOut.TOO_LONG: 1}


@pytest.mark.parametrize("limit", ["MOST", "MOST_CHARACTERS"])
def test_more_than_memory_is_meant_to_hold_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(f"services.scheduler.datasets.examples.{limit}", 2)
    with pytest.raises(Problem, match="more than 2 "):
        collected(questions=tuple(Question(question=f"Q{n}", sources=("d",)) for n in range(3)))
