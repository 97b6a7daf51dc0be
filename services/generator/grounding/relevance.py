# ruff: noqa: RUF001  (apostrophes as documents have them)
"""How well sentences answer a question, by their words alone.

BM25 (Robertson and Zaragoza, 2009) over the sentences at hand, with the additions that a few sentences of a few
passages need: the share of the question that a sentence covers, neighbouring words, the heading above a sentence,
the form of the question, and the rank that search gave the passage.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from services.generator.grounding.sentences import SentenceKind

__all__ = ["Candidate", "Scored", "keywords", "overlap", "rank", "terms"]

K1 = 1.2
B = 0.4
RANK_DECAY = 0.04  # of the score, a passage
HEADING_WEIGHT = 0.35  # of a word in the heading above a sentence
MANY_WORDS = re.compile(r"\b(?:how (?:many|much|long|often|old|large|big|fast)|when|what (?:year|date|port|number))\b")
DEFINITION = re.compile(r"^\W*(?:what|who) (?:is|are|was|were) (?:an? |the )?(.+?)\W*$")

_MARKS = re.compile(r"[\"'`*“”‘’«»]")
_WORD = re.compile(r"[^\W_]+(?:[.'’-][^\W_]+)*")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_KIND_WEIGHT = {
    SentenceKind.PROSE: 1.0,
    SentenceKind.ITEM: 0.95,
    SentenceKind.ROW: 0.9,
    SentenceKind.CODE: 0.6,
    SentenceKind.HEADING: 0.0,
}
_STOP = (
    "a about above after again all also am an and any are as at be because been before being below between both "
    "but by can could did do does doing done down during each few for from further get had has have having he her "
    "here hers him his how i if in into is it its itself just many me mine more most much my no nor not of off on "
    "once only or other our ours out over own please same shall she should so some such tell than that the their "
    "theirs them then there these they this those through to too under until up us very was we were what when "
    "where which while who whom whose why will with would you your yours der das ein eine und oder ist sind wie "
    "was wer wo wann warum mit von zu im in den dem le la les un une des et ou est sont que qui quoi comment pour "
    "dans el los las una es para"
)
_STOP_WORDS = frozenset(_STOP.split())


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


def rank(question: str, candidates: Sequence[Candidate]) -> list[Scored]:
    """All candidates, best first; equal scores keep their order. A score of 0 means: nothing in common."""
    asked = list(dict.fromkeys(terms(question)))
    bags = [Counter(terms(candidate.text)) for candidate in candidates]
    if not asked or not bags:
        return [Scored(candidate, 0.0, 0.0) for candidate in candidates]
    weight = _weights(asked, bags)
    average = sum(bag.total() for bag in bags) / len(bags) or 1.0
    scored = [
        _score(question, asked, candidate, bag, weight, average)
        for candidate, bag in zip(candidates, bags, strict=True)
    ]
    return sorted(scored, key=lambda one: -one.score)


def _weights(asked: Sequence[str], bags: Sequence[Counter[str]]) -> dict[str, float]:
    """Inverse sentence frequency: a word that every sentence has says little; one that none has, as much as one."""
    total = len(bags)
    seen = {term: max(1, sum(term in bag for bag in bags)) for term in asked}
    return {term: math.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in seen.items()}


def _score(
    question: str,
    asked: Sequence[str],
    candidate: Candidate,
    bag: Counter[str],
    weight: dict[str, float],
    average: float,
) -> Scored:
    above = frozenset(terms(candidate.heading))
    norm = K1 * (1 - B + B * bag.total() / average)
    least = max(weight.values()) / 2  # among few sentences even the question's main word may be in all
    score = covered = 0.0
    for term in asked:
        count = bag[term] or HEADING_WEIGHT * (term in above)
        score += weight[term] * count * (K1 + 1) / (count + norm)
        covered += max(weight[term], least) * min(1.0, count)
    coverage = covered / sum(max(one, least) for one in weight.values())
    score *= 0.5 + coverage
    score *= 1 + 0.15 * _adjacent(asked, candidate.text)
    score *= _fits_question(question.casefold(), candidate.text)
    score *= _KIND_WEIGHT[candidate.kind] * max(0.5, 1 - RANK_DECAY * candidate.passage)
    return Scored(candidate, score, coverage)


def _adjacent(asked: Sequence[str], text: str) -> int:
    """How many neighbours in the question are neighbours in the sentence; at most 3 count."""
    words = terms(text)
    pairs = set(pairwise(words))
    return min(3, sum(pair in pairs for pair in pairwise(asked)))


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
    first, second = frozenset(terms(one)), frozenset(terms(other))
    return len(first & second) / (len(first | second) or 1)


def terms(text: str) -> list[str]:
    """Stemmed words without stop words, in order; Chinese and Japanese as pairs of characters."""
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        if wide := _WIDE.findall(word):
            found += [run[i : i + 2] for run in wide for i in range(max(1, len(run) - 1))]
        elif word not in _STOP_WORDS:
            found.append(_stem(word))
    return found


def keywords(text: str) -> list[str]:
    """The words of `text` but its stop words, as they are written, each once."""
    found: dict[str, str] = {}
    for word in _WORD.findall(text):
        if (folded := word.casefold()) not in _STOP_WORDS:
            found.setdefault(folded, word)
    return list(found.values())


@lru_cache(maxsize=16_384)
def _stem(word: str) -> str:
    """A light English stemmer: enough that "retries", "retried" and "retry" meet; other languages pass mostly."""
    word = word.removesuffix("'s").removesuffix("’s")
    if len(word) <= 3 or not word.isalpha():
        return word
    if word.endswith(("ies", "ied")) and len(word) > 4:
        return word[:-3] + "y"
    for suffix in ("ations", "ation", "ingly", "edly", "ments", "ment", "ings", "ing", "ers", "er", "ed", "ly"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return _tidy(word[: -len(suffix)])
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return _tidy(word[:-1])
    return _tidy(word)


def _tidy(stem: str) -> str:
    """One form for stems that a suffix had doubled or robbed of its "e": "stopp" and "stop", "creat" and "create"."""
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return stem[:-1]
    return stem.removesuffix("e") if len(stem) > 3 else stem
