"""Plain ways to search: vectors of windows, BM25, and both fused by rank."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.quality.corpora import Corpus, Question
from benchmarks.quality.corpora.vectors import embed
from benchmarks.quality.measures import DEPTH
from services.embedder.model.model import Kind as TextKind

__all__ = ["WINDOW_CHARS", "BM25", "Plain", "windows"]

WINDOW_CHARS: Final = 1_000
K1, B = 1.2, 0.75
RRF_K: Final = 60
RRF_DEPTH: Final = 50
_WORD = re.compile(r"\w+")


def windows(corpus: Corpus) -> tuple[list[str], list[str]]:
    """Names of documents and texts of windows of 1,000 characters without overlap."""
    pairs = [
        (name, text[start : start + WINDOW_CHARS])
        for name, text in corpus.documents.items()
        for start in range(0, len(text), WINDOW_CHARS)
    ]
    return [name for name, _ in pairs], [text for _, text in pairs]


class BM25:
    """Okapi BM25 over lower-cased words, without stems and stop words (Robertson and Zaragoza, "The Probabilistic
    Relevance Framework: BM25 and Beyond", 2009)."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(_words(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts], dtype=np.float64)
        self._norms = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, count in enumerate(counts):
            for word, times in count.items():
                self._postings[word].append((place, times))

    def scores(self, question: str) -> np.ndarray:
        """One score for each text."""
        total = np.zeros(len(self._norms))
        for word in _words(question):
            if postings := self._postings.get(word):
                places, times = np.array(postings).T
                weight = math.log(1 + (len(total) - len(postings) + 0.5) / (len(postings) + 0.5))
                total[places] += weight * times * (K1 + 1) / (times + self._norms[places])
        return total


class Plain:
    """Searches the windows of a corpus in three ways, best first, as names of documents."""

    def __init__(self, corpus: Corpus) -> None:
        self._names, texts = windows(corpus)
        self._vectors = embed(texts, TextKind.PASSAGE)
        self._words = BM25(texts)

    def search(self, questions: Sequence[Question]) -> dict[str, list[list[str]]]:
        """Rankings by the name of the way."""
        cosines = embed([question.text for question in questions], TextKind.QUERY) @ self._vectors.T
        found: dict[str, list[list[str]]] = {"plain dense": [], "BM25": [], "dense + BM25, RRF": []}
        for row, question in zip(cosines, questions, strict=True):
            words = self._words.scores(question.text)
            by_vector, by_words = _best(row), _best(words)
            by_words = [place for place in by_words if words[place] > 0]
            fused: dict[int, float] = defaultdict(float)
            for ranking in (by_vector, by_words):
                for rank, place in enumerate(ranking, 1):
                    fused[place] += 1 / (RRF_K + rank)
            together = sorted(fused, key=lambda place: (-fused[place], place))
            for ranking, order in zip(found.values(), (by_vector, by_words, together), strict=True):
                ranking.append([self._names[place] for place in order[:DEPTH]])
        return found


def _best(scores: np.ndarray) -> list[int]:
    order: list[int] = np.argsort(-scores, kind="stable")[:RRF_DEPTH].tolist()
    return order


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
