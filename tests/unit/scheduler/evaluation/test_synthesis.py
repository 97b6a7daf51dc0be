"""Which passages a model is asked about, and which of its words are a question."""

import itertools

import pytest

from services.scheduler.evaluation.synthesis import draw_places, question_in

PASSAGE = "The blue lamps of the library were lit in 1911. 灯台は港にある。"


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ("When was the blue lamp built?", "When was the blue lamp built?"),
        ('  "When was  the blue\tlamp built?"  ', "When was the blue lamp built?"),
        ("Question: When was the lamp built?", "When was the lamp built?"),
        ("Test question 1: When was the lamp built? It was 1911.", "When was the lamp built?"),
        ("1. When was the lamp built?\n2. By whom?", "When was the lamp built?"),
        ("Here is a question.\n\n**When was the lamp built?**", "When was the lamp built?"),
        ("\u706f\u53f0\u306f\u3044\u3064\u5efa\u3066\u3089\u308c\u305f\u306e\u3067\u3059\u304b\uff1f", None),
        ("What does `lamp*?` stand for?", "What does `lamp*?` stand for?"),
        ("42 lamps stand where?", "42 lamps stand where?"),
    ],
)
def test_a_question_is_found_in_a_reply(said: str, question: str | None) -> None:
    assert question_in(said, PASSAGE) == (said if question is None else question)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "It was built in 1911.",
        "Why?",
        "What does the text say about lamps?",
        "According to this passage, who built the lamp?",
        "When does the ferry to Rauma leave?",
        "When is the library of Tarn open?",
        "Who built the lamp " + "and the other lamp " * 20 + "?",
    ],
)
def test_a_reply_without_a_usable_question_gives_none(said: str) -> None:
    assert question_in(said, PASSAGE) is None


def test_a_known_question_is_not_asked_again() -> None:
    assert question_in("Who built THE lamp?", PASSAGE, {"who built the lamp?"}) is None


def test_each_document_has_a_turn_before_one_has_two() -> None:
    drawn = list(itertools.islice(draw_places(5, seed=1), 12))
    assert sorted(drawn[:5]) == [(document, 0) for document in range(5)]
    assert sorted(drawn[5:10]) == [(document, 1) for document in range(5)]
    assert drawn == list(itertools.islice(draw_places(5, seed=1), 12))
    assert drawn != list(itertools.islice(draw_places(5, seed=2), 12))
