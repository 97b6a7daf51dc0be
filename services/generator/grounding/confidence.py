"""How sure an answer can be, and whether the passages can hold one at all, before it is written.

`confidence` is the probability that the best passage answers the question: a logistic regression over what the search
says of the passages, fitted on the tuning halves of benchmarks/quality. docs/generation.md has how it is calibrated on
the other halves.

A question is not answerable where that probability is small, where it names an identifier that the collection does not
have, and where it asks of a named thing what the passage about that thing does not say.
"""

import logging
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from operator import mul
from statistics import fmean
from typing import Final

import anyio
from nats.errors import Error as NatsError

from shared.analysis.sentences import split_sentences
from shared.analysis.terms import TermKind, content_terms, document_terms, question_terms
from shared.contracts.envelope import Passage
from shared.contracts.problems import Problem

__all__ = ["Assessment", "Assessor", "Embed", "confidence_of"]

log = logging.getLogger(__name__)

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""A vector of length 1 for each text, in their order."""

SIMILARITY, COVERAGE, LEAD, ABSENT, CONSTANT = 2.40, 2.72, 6.79, -0.95, -3.41
"""Coefficients: of the best passage's similarity and coverage, of its score above the mean of the others, of an
identifier that the collection does not have."""

LEAST_CONFIDENCE: Final = 0.17
"""Of 100 answerable questions of the tuning halves, 5 have less."""

SAID: Final = 0.22
"""Cosine of what is asked of a thing and a clause about it, from which on the clause may say it."""

COMPARED: Final = 16
"""Clauses that are compared at most."""

_CLAUSE = re.compile(r"[,;:()|]| and ")
_ASKS_FOR_ALL: Final = frozenset(content_terms("mean say tell know describe explain detail information thing about"))


@dataclass(frozen=True, slots=True)
class Assessment:
    """`confidence` is 0 to 1, None where the passages have no similarities; `absent` are identifiers that the question
    names and the collection does not have."""

    confidence: float | None = None
    answerable: bool = True
    absent: tuple[str, ...] = ()


class Assessor:
    """Assesses questions. `embed` compares what is asked with what is said, within `seconds`; without it, or without
    an answer in time, that comparison is left out."""

    def __init__(self, *, seconds: float = 1.0, least_confidence: float = LEAST_CONFIDENCE) -> None:
        self._seconds = seconds
        self._least = least_confidence

    async def assess(
        self, question: str, passages: Sequence[Passage], absent: tuple[str, ...], embed: Embed | None = None
    ) -> Assessment:
        """`absent` is what the search said of the question."""
        if not passages:
            return Assessment(answerable=False, absent=absent)
        confidence = confidence_of(passages, absent)
        sure = confidence is None or confidence >= self._least
        answerable = sure and not absent and await self._may_say(question, passages, embed)
        return Assessment(confidence, answerable, absent)

    async def _may_say(self, question: str, passages: Sequence[Passage], embed: Embed | None) -> bool:
        """Whether the passage about the thing that a question names may say what is asked of it."""
        names = [term for term in question_terms(question) if term.kind is TermKind.IDENTIFIER]
        if not names or embed is None:
            return True
        about = next((p for p in passages if _holds(p.text, [form for name in names for form in name.forms])), None)
        asked = _without(question, [name.text for name in names])
        wanted = set(content_terms(asked))
        if about is None or not wanted - _ASKS_FOR_ALL:
            return True
        if len(wanted.intersection(document_terms(about.text))) * 2 > len(wanted):
            return True
        clauses = _clauses(_without(about.text, [name.text for name in names]))
        with anyio.move_on_after(self._seconds):
            try:
                asked_for, *said = await embed([asked, *clauses])
            except (Problem, NatsError) as error:
                log.info("the question is not compared with the passage about what it names: %s", error)
                return True
            return max((sum(map(mul, asked_for, one)) for one in said), default=0.0) >= SAID
        return True


def confidence_of(passages: Sequence[Passage], absent: Sequence[str] = ()) -> float | None:
    """The probability that the first passage answers the question; None without its similarity and coverage."""
    first, *others = passages
    if first.similarity is None or first.coverage is None:
        return None
    lead = _score(first) - fmean(map(_score, others)) if others else _score(first)
    weighed = SIMILARITY * first.similarity + COVERAGE * first.coverage + LEAD * lead + ABSENT * bool(absent)
    return 1 / (1 + math.exp(-(weighed + CONSTANT)))


def _score(passage: Passage) -> float:
    """The retriever's."""
    return passage.score if passage.retrieval_score is None else passage.retrieval_score


def _holds(text: str, forms: Sequence[str]) -> bool:
    return not set(document_terms(text)).isdisjoint(forms)


def _without(text: str, names: Sequence[str]) -> str:
    for name in names:
        text = re.sub(re.escape(name), " ", text, flags=re.IGNORECASE)
    return " ".join(text.split())


def _clauses(text: str) -> list[str]:
    """The sentences of a passage and their clauses, as far as they have words."""
    found: list[str] = []
    for sentence in split_sentences(text):
        found += [sentence.text, *_CLAUSE.split(sentence.text)]
    return [clause for clause in dict.fromkeys(found) if content_terms(clause)][:COMPARED]
