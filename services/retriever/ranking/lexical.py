"""How much of a question's words a passage holds, 0 to 1, by BM25 over the collection's own statistics.

BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) without its constant
factor: a term counts tf / (tf + norm), which is below 1, by its inverse document frequency. Divided by the weight of
all terms of the question, scores of two questions can be compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.analysis.terms import QuestionTerm, TermKind

__all__ = [
    "RARE",
    "Matches",
    "TermStatistics",
    "WeightedTerm",
    "absent_identifiers",
    "count_terms",
    "match",
    "weigh_terms",
]

Floats: TypeAlias = NDArray[np.float64]

K1: Final = 1.2
B: Final = 0.75
FULL: Final = 1 / (1 + K1)
"""What a term counts that a passage of average length holds once."""

PART_WEIGHT: Final = 0.5
"""Of a word or number within an identifier, which counts as a whole too."""

RARE: Final = 32
"""Passages that hold an identifier at most for it to name something."""


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """What a collection knows of terms: its passages, their average length in terms, and in how many passages a form
    is, as far as it has been looked up. A frequency of UNCOUNTED or more may be too low."""

    passages: int
    average_length: float
    frequencies: Mapping[str, int] = field(default_factory=dict)

    def rarity(self, frequency: int) -> float:
        """The inverse document frequency, above 0."""
        return math.log(1 + (self.passages - frequency + 0.5) / (frequency + 0.5))


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A term of a question, how much it says, and in how many passages it is."""

    term: QuestionTerm
    weight: float
    frequency: int

    @property
    def names_something(self) -> bool:
        """Whether it is an identifier of few passages, so that a passage which holds it is meant."""
        return self.term.kind is TermKind.IDENTIFIER and 0 < self.frequency <= RARE


@dataclass(frozen=True, slots=True)
class Matches:
    """How passages match, by place, each 0 to 1: by BM25; the share of the question's terms that a passage holds, by
    their rarity; and the share of the identifiers that name something."""

    score: Floats
    coverage: Floats
    named: Floats


def weigh_terms(terms: Sequence[QuestionTerm], statistics: TermStatistics) -> list[WeightedTerm]:
    """The terms with their weights. The one spelling of a compound counts only where the collection has it."""
    weighted = []
    for term in terms:
        frequency = max(statistics.frequencies.get(form, 0) for form in term.forms)
        if not frequency and term.kind is TermKind.WORD and not term.text.isalnum():
            continue
        share = PART_WEIGHT if term.kind is TermKind.PART else 1.0
        weighted.append(WeightedTerm(term, share * statistics.rarity(min(frequency, statistics.passages)), frequency))
    return weighted


def absent_identifiers(terms: Sequence[WeightedTerm]) -> tuple[str, ...]:
    """The identifiers of a question that no passage holds."""
    return tuple(one.term.text for one in terms if one.term.kind is TermKind.IDENTIFIER and not one.frequency)


def count_terms(terms: Sequence[WeightedTerm], passages: Sequence[str]) -> tuple[Floats, Floats]:
    """How often each passage (rows) holds each term (columns), and the passages' lengths in terms.

    A passage is its terms with a space between them. Of a term's forms the most frequent one counts.
    """
    counts = np.zeros((len(passages), len(terms)))
    for row, passage in enumerate(passages):
        padded = f" {passage.replace(' ', '  ')} "  # a term that follows itself counts twice
        counts[row] = [max(padded.count(f" {form} ") for form in weighted.term.forms) for weighted in terms]
    return counts, np.array([passage.count(" ") + 1 for passage in passages], dtype=np.float64)


def match(terms: Sequence[WeightedTerm], counts: Floats, lengths: Floats, average_length: float) -> Matches:
    """How passages match that hold the terms so often: `counts` is (passages, terms), `lengths` (passages,)."""
    norms = K1 * (1 - B + B * lengths / average_length)
    score, covered, found = (np.zeros(len(lengths)) for _ in range(3))
    for column, weighted in enumerate(terms):
        count = counts[:, column]
        score += weighted.weight * count / (count + norms)
        held = np.where(count > 0, weighted.weight, 0.0)
        covered += held
        found += held if weighted.names_something else 0.0
    total = sum(weighted.weight for weighted in terms) or 1.0
    named = sum(weighted.weight for weighted in terms if weighted.names_something) or 1.0
    return Matches(score / total, covered / total, found / named)
