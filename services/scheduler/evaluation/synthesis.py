"""Questions that a language model writes: of which passages, what it is told, and which of its words are a question."""

import random
import re
from collections.abc import Container, Iterator
from typing import Final

from shared.analysis.languages import detect_language
from shared.analysis.terms import document_terms, question_terms

__all__ = ["Place", "chat_about", "draw_places", "question_in"]

_INSTRUCTIONS: Final = """\
You write test questions for a search engine. Read the text and write one question that a person would ask who looks \
for it and has not seen it. The text must hold the answer. Name what the question is about; do not speak of "the text" \
or "the passage". Write in the language of the text. Reply with the question alone, in one line."""

_EXAMPLES: Final = (
    (
        "The library of Tarn has 40,000 volumes. It is open on weekdays from nine to five, and closed in August.",
        "When is the library of Tarn open?",
    ),
    (
        "To reset the pump, hold the red button for ten seconds. The display then shows E0.",
        "How do I reset the pump?",
    ),
)
"""Small models follow examples better than instructions."""

SHORTEST, LONGEST = 8, 300
"""Characters of a question."""

_END: Final = re.compile(r"\uff1f|[?\u061f\u037e\u055e](?=[\"'*_)\]\u201d\u00bb]*(?:\s|\Z))")
_LABEL: Final = re.compile(r"^\W*(?:(?:test )?question(?: \d+)?\s*[:.)-]|\d+[.):])\s*", re.IGNORECASE)
_QUOTES: Final = " \t\"'`*_\u201c\u201d\u201e\u00ab\u00bb"
_TOO_CLOSE: Final = re.compile(
    r"\b(?:the|this|that|given|above|following|provided) (?:text|passage|excerpt|paragraph|snippet|document|article)\b",
    re.IGNORECASE,
)
"""A question that speaks of its own text asks nothing of whoever has not got it before them."""

Place = tuple[int, int]
"""The number of a document, and how often it was drawn before."""


def draw_places(documents: int, seed: int) -> Iterator[Place]:
    """Documents in an order of chance: all of them once, then all once more, and so on for ever."""
    order = list(range(documents))
    random.Random(seed).shuffle(order)  # noqa: S311
    turn = 0
    while True:
        yield from ((document, turn) for document in order)
        turn += 1


def chat_about(passage: str) -> list[dict[str, str]]:
    """The messages that ask a model for a question about a passage."""
    messages = [{"role": "system", "content": _INSTRUCTIONS}]
    for text, question in _EXAMPLES:
        messages += [{"role": "user", "content": _prompt_of(text)}, {"role": "assistant", "content": question}]
    return [*messages, {"role": "user", "content": _prompt_of(passage)}]


def _prompt_of(passage: str) -> str:
    return f"Text:\n{passage}\n\nOne question that the text answers:"


def question_in(said: str, passage: str, known: Container[str] = ()) -> str | None:
    """The question about the passage in a reply of a model.

    None where there is none, where it has no word of the passage, and for one of the examples, or one that is known, in
    lower case, already.
    """
    for line in said.splitlines():
        text = _LABEL.sub("", line.strip()).strip(_QUOTES)
        if (end := _END.search(text)) is None:
            continue
        question = " ".join(text[: end.end()].split())
        usable = SHORTEST <= len(question) <= LONGEST and not _TOO_CLOSE.search(question)
        new = question.casefold() not in known and all(question != example for _, example in _EXAMPLES)
        return question if usable and new and _is_about(question, passage) else None
    return None


def _is_about(question: str, passage: str) -> bool:
    language = detect_language(passage)
    held = set(document_terms(passage, language))
    return any(not held.isdisjoint(term.forms) for term in question_terms(question, (language,)))
