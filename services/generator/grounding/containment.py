"""How much of a sentence stands in a text, by its words; its numbers and identifiers must all be there."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.analysis.languages import Language, stem
from shared.analysis.terms import content_terms

__all__ = ["Contained", "Words", "contained"]

NAME_WEIGHT: Final = 2.0
"""Of a name, against other words: an invented name is worse than another word for the same."""

_CITATION = re.compile(r"\[\d{1,3}(?: *[,;] *\d{1,3})*\]")
_FIGURE = re.compile(r"[^\W_]*\d[^\W_]*(?:[.,:/-][^\W_]*\d[^\W_]*)*")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_NAME = re.compile(r"(?<=[^.!?:\s]\s)[^\W\d_][\w'-]*")
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELLED = {
    stem(word, Language.ENGLISH): str(number)
    for words, step, first in ((_ONES, 1, 0), (_TENS, 10, 20))
    for number, word in zip(itertools.count(first, step), words.split(), strict=False)
}
"""Numbers by the stems of their English words."""


@dataclass(frozen=True, slots=True)
class Words:
    """A text as it is compared: stemmed words, figures (numbers and identifiers with digits), and names."""

    terms: frozenset[str]
    figures: frozenset[str]
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: str) -> "Words":
        plain = _CITATION.sub(" ", text)
        names = (word for word in _NAME.findall(plain) if word[0].isupper())
        return cls(
            frozenset(_spelled(content_terms(plain))),
            frozenset(_figures(plain)),
            frozenset(content_terms(" ".join(names))),
        )


@dataclass(frozen=True, slots=True)
class Contained:
    """`share` of the sentence's words, 0 to 1; `figures` says whether every one of its figures is in the text."""

    share: float
    figures: bool


def contained(sentence: Words, sentences: Sequence[Words]) -> Contained:
    """How much of `sentence` is in the `sentences` of a passage.

    The share is the mean of that in the passage as a whole and that in its best two neighbouring sentences, so that
    words gathered from everywhere count less than a statement that stands there.
    """
    whole = _union(sentences)
    windows = [_union(sentences[i : i + 2]) for i in range(len(sentences))] or [whole]
    best = max(_share(sentence, window) for window in windows)
    return Contained((_share(sentence, whole) + best) / 2, sentence.figures <= whole.figures | whole.terms)


def _union(texts: Sequence[Words]) -> Words:
    empty = frozenset[str]()
    return Words(empty.union(*(text.terms for text in texts)), empty.union(*(text.figures for text in texts)))


def _share(sentence: Words, text: Words) -> float:
    weights = {term: NAME_WEIGHT if term in sentence.names else 1.0 for term in sentence.terms}
    there = sum(weight for term, weight in weights.items() if term in text.terms or term in text.figures)
    return there / (sum(weights.values()) or 1.0)


def _figures(text: str) -> Iterable[str]:
    for figure in _FIGURE.findall(_GROUPED.sub("", text.casefold())):
        yield figure
        yield from re.findall(r"\d+(?:\.\d+)?", figure) if figure[0].isdigit() else ()


def _spelled(words: Iterable[str]) -> Iterable[str]:
    return (_SPELLED.get(word, word) for word in words)
