# ruff: noqa: RUF001  (apostrophes as documents have them)
"""How well sentences answer a question, by their words alone.

BM25 (Robertson and Zaragoza, 2009) over the sentences at hand, with the additions that a few sentences of a few
passages need: the share of the question that a sentence covers, neighbouring words, the heading above a sentence,
the form of the question, and the rank that search gave the passage.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from shared.analysis.languages import Language, detect_language
from shared.analysis.sentences import SentenceKind
from shared.analysis.terms import QuestionTerm, TermKind, content_terms, document_terms, question_terms

__all__ = ["Candidate", "Scored", "overlap", "rank"]

K1 = 1.2
B = 0.4
RANK_DECAY = 0.04  # of the score, a passage
PART_WEIGHT = 0.5  # of a word within an identifier, which counts as a whole too
HEADING_WEIGHT = 0.35  # of a word in the heading above a sentence
MANY_WORDS = re.compile(r"\b(?:how (?:many|much|long|often|old|large|big|fast)|when|what (?:year|date|port|number))\b")
DEFINITION = re.compile(r"^\W*(?:what|who) (?:is|are|was|were) (?:an? |the )?(.+?)\W*$")

_MARKS = re.compile(r"[\"'`*“”‘’«»]")
_KIND_WEIGHT = {
    SentenceKind.PROSE: 1.0,
    SentenceKind.ITEM: 0.95,
    SentenceKind.ROW: 0.9,
    SentenceKind.CODE: 0.6,
    SentenceKind.HEADING: 0.0,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be quoted, from passage `passage` (0 is the best one), under `heading`."""

    text: str
    kind: SentenceKind
    passage: int
    position: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate, its score (comparable within one call) and the share of the question that it covers."""

    candidate: Candidate
    score: float
    coverage: float


@dataclass(frozen=True, slots=True)
class _Bag:
    """The terms of a candidate: how often each is in it, in their order, and those of the heading above it."""

    counts: Counter[str]
    words: Sequence[str]
    above: frozenset[str]

    @classmethod
    def of(cls, candidate: Candidate, language: Language) -> "_Bag":
        words = document_terms(candidate.text, language)
        return cls(Counter(words), words, frozenset(document_terms(candidate.heading, language)))

    def count(self, term: QuestionTerm) -> float:
        """How often the term is in the sentence, or how much it counts in the heading above."""
        found = max(self.counts[form] for form in term.forms)
        return found or HEADING_WEIGHT * (not self.above.isdisjoint(term.forms))


def rank(question: str, candidates: Sequence[Candidate]) -> list[Scored]:
    """All candidates, best first; equal scores keep their order. A score of 0 means: nothing in common."""
    languages = _languages(candidates)
    asked = question_terms(question, languages.values()) if content_terms(question) else []
    bags = [_Bag.of(candidate, languages[candidate.passage]) for candidate in candidates]
    if not asked or not bags:
        return [Scored(candidate, 0.0, 0.0) for candidate in candidates]
    weights = _weights(asked, bags)
    average = sum(bag.counts.total() for bag in bags) / len(bags) or 1.0
    scored = [
        _score(question, asked, candidate, bag, weights, average)
        for candidate, bag in zip(candidates, bags, strict=True)
    ]
    return sorted(scored, key=lambda one: -one.score)


def _languages(candidates: Sequence[Candidate]) -> dict[int, Language]:
    """The language of each passage."""
    texts: defaultdict[int, list[str]] = defaultdict(list)
    for candidate in candidates:
        texts[candidate.passage].append(candidate.text)
    return {passage: detect_language(" ".join(sentences)) for passage, sentences in texts.items()}


def _weights(asked: Sequence[QuestionTerm], bags: Sequence[_Bag]) -> list[float]:
    """Inverse sentence frequency: a word that every sentence has says little; one that none has, as much as one."""
    total = len(bags)
    weights = []
    for term in asked:
        seen = max(1, sum(any(bag.counts[form] for form in term.forms) for bag in bags))
        share = PART_WEIGHT if term.kind is TermKind.PART else 1.0
        weights.append(share * math.log(1 + (total - seen + 0.5) / (seen + 0.5)))
    return weights


def _score(
    question: str,
    asked: Sequence[QuestionTerm],
    candidate: Candidate,
    bag: _Bag,
    weights: Sequence[float],
    average: float,
) -> Scored:
    norm = K1 * (1 - B + B * bag.counts.total() / average)
    least = max(weights) / 2  # among few sentences even the question's main word may be in all
    score = covered = 0.0
    for term, weight in zip(asked, weights, strict=True):
        count = bag.count(term)
        score += weight * count * (K1 + 1) / (count + norm)
        covered += max(weight, least) * min(1.0, count)
    coverage = covered / sum(max(weight, least) for weight in weights)
    score *= 0.5 + coverage
    score *= 1 + 0.15 * _adjacent(asked, bag.words)
    score *= _fits_question(question.casefold(), candidate.text)
    score *= _KIND_WEIGHT[candidate.kind] * max(0.5, 1 - RANK_DECAY * candidate.passage)
    return Scored(candidate, score, coverage)


def _adjacent(asked: Sequence[QuestionTerm], words: Sequence[str]) -> int:
    """How many neighbours in the question are neighbours in the sentence; at most 3 count."""
    pairs = set(pairwise(words))
    near = (any((a, b) in pairs for a in one.forms for b in other.forms) for one, other in pairwise(asked))
    return min(3, sum(near))


def _fits_question(question: str, text: str) -> float:
    """A factor for the form of the answer: numbers for "how many", "X is ..." for "what is X"."""
    factor = 1.0
    if MANY_WORDS.search(question) and any(character.isdigit() for character in text):
        factor *= 1.35
    if definition := DEFINITION.match(question):
        subject, plain = re.escape(definition[1]), _MARKS.sub("", text.casefold())
        if re.match(rf"\W*(?:an? |the )?{subject} (?:\([^)]*\) )?(?:is|are|was|were|means|refers)\b", plain):
            factor *= 1.6
    if text.endswith("?"):
        factor *= 0.6  # a question answers nothing
    if f"{question.strip().rstrip('?')}?" in text.casefold():
        factor *= 0.3  # an example that asks the same thing does not answer it either
    if not text[:1].isupper() and text[:1].isalpha():
        factor *= 0.9  # most likely the rest of a sentence that the chunk has cut
    return factor


def overlap(one: str, other: str) -> float:
    """Jaccard similarity of two texts' words, 0 to 1."""
    first, second = frozenset(content_terms(one)), frozenset(content_terms(other))
    return len(first & second) / (len(first | second) or 1)
