"""Passages that look like those of a real collection, from a seed: any of them can be made again at any time.

A vector is the centre of its topic, moved within a space of few dimensions that all topics share, and some noise: as in
real embeddings, neighbours are near, and few directions matter. The words of a text are drawn by Zipf's law, a third of
them from the topic's own words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.retriever.stores.base import Chunk, IndexedDocument

__all__ = ["BLOCK", "DIMENSION", "PASSAGES", "Corpus", "Question"]

DIMENSION = 384
BLOCK = 10_000
"""Passages that are made at a time."""
PASSAGES = 10
"""Of one document; all have its topic."""

OF_TOPIC = 200
"""Passages of one topic, about: a larger corpus has more topics."""
TOPIC_WORDS = 40
VOCABULARY = 30_000
WORDS = 80
INNER = 32
"""Dimensions in which passages of a topic differ, but for noise."""
SPREAD, NOISE = 0.7, 0.2

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    vector: Vectors


@dataclass(frozen=True)
class Block:
    """The passages from `first` on."""

    first: int
    vectors: Vectors
    permille: Integers
    """A number from 0 to 999 for each passage, the same for all of a document: what filters compare."""
    words: Integers


@dataclass(frozen=True)
class Corpus:
    """As many passages as it says, in blocks; their ids are `d<document>:<position>`."""

    size: int
    seed: int = 6
    _words: list[str] = field(default_factory=lambda: [_word(number) for number in range(VOCABULARY)])

    @property
    def topics(self) -> int:
        return max(self.size // OF_TOPIC, 1)

    def blocks(self, *, words: bool = True) -> Iterator[Block]:
        for number in range(-(-self.size // BLOCK)):
            yield self.block(number, words=words)

    def block(self, number: int, *, words: bool = True) -> Block:
        rng = np.random.default_rng([self.seed, number])
        rows = min(BLOCK, self.size - number * BLOCK)
        topics = np.repeat(rng.integers(self.topics, size=-(-rows // PASSAGES)), PASSAGES)[:rows]
        permille = np.repeat(rng.integers(1000, size=-(-rows // PASSAGES)), PASSAGES)[:rows]
        vectors = self._vectors(rng, topics)
        drawn = self._draw(rng, topics, WORDS, share=1 / 3) if words else np.empty((0, 0), np.int64)
        return Block(number * BLOCK, vectors, permille, drawn)

    def documents(self, block: Block, revision: int = 1) -> list[IndexedDocument]:
        """Those of the block; it must have words."""
        found = []
        for start in range(0, len(block.vectors), PASSAGES):
            number = (block.first + start) // PASSAGES
            rows = range(start, min(start + PASSAGES, len(block.vectors)))
            metadata = {"permille": int(block.permille[start])}
            chunks = [
                Chunk(
                    position=row - start,
                    text=self._text(block.words[row]),
                    vector=block.vectors[row],
                    metadata=metadata,
                )
                for row in rows
            ]
            found.append(
                IndexedDocument(id=f"d{number}", name=f"d{number}.md", version="1", revision=revision, chunks=chunks)
            )
        return found

    def questions(self, count: int) -> list[Question]:
        """Questions about topics of the corpus; none is a passage of it."""
        rng = np.random.default_rng([self.seed, 2**31])
        topics = rng.integers(self.topics, size=count)
        vectors = self._vectors(rng, topics)
        words = self._draw(rng, topics, 5, share=0.8)
        return [Question(self._text(row), vector) for row, vector in zip(words, vectors, strict=True)]

    def _vectors(self, rng: np.random.Generator, topics: Integers) -> Vectors:
        inner = rng.standard_normal((len(topics), INNER), dtype=np.float32) @ self._space
        noise = rng.standard_normal((len(topics), DIMENSION), dtype=np.float32) * (NOISE / DIMENSION**0.5)
        vectors: Vectors = self._centres[topics] + inner * SPREAD + noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _draw(self, rng: np.random.Generator, topics: Integers, count: int, *, share: float) -> Integers:
        shape = (len(topics), count)
        common = np.searchsorted(self._zipf, rng.random(shape, dtype=np.float32))
        own = self._topic_words[topics[:, None], rng.integers(TOPIC_WORDS, size=shape)]
        chosen: Integers = np.where(rng.random(shape, dtype=np.float32) < share, own, common)
        return chosen

    def _text(self, words: Integers) -> str:
        return " ".join([self._words[word] for word in words])

    @cached_property
    def _centres(self) -> Vectors:
        centres = np.random.default_rng([self.seed, 2**31 + 1]).standard_normal(
            (self.topics, DIMENSION), dtype=np.float32
        )
        return centres / np.linalg.norm(centres, axis=1, keepdims=True)

    @cached_property
    def _space(self) -> Vectors:
        space = np.random.default_rng([self.seed, 2**31 + 2]).standard_normal((INNER, DIMENSION), dtype=np.float32)
        return space / (INNER * DIMENSION) ** 0.5

    @cached_property
    def _topic_words(self) -> Integers:
        rng = np.random.default_rng([self.seed, 2**31 + 3])
        return rng.integers(200, VOCABULARY, size=(self.topics, TOPIC_WORDS))

    @cached_property
    def _zipf(self) -> npt.NDArray[np.float32]:
        weights = 1 / np.arange(1, VOCABULARY + 1) ** 1.05
        cumulated: npt.NDArray[np.float32] = (np.cumsum(weights) / weights.sum()).astype(np.float32)
        cumulated[-1] = 1.0
        return cumulated


def _word(number: int) -> str:
    """A word that no other number has: syllables, the shorter the more frequent."""
    syllables = []
    number += 70
    while number:
        number, digit = divmod(number, 70)
        syllables.append("bdfghklmnprstv"[digit % 14] + "aeiou"[digit // 14])
    return "".join(syllables)
