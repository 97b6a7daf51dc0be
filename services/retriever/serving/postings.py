"""The inverted index of a segment: for each term the rows that hold it, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.retriever.serving.hashing import hashes_of

__all__ = ["Posting", "Postings", "TermSets"]

Posting: TypeAlias = tuple[NDArray[np.uint32], NDArray[np.uint8]]
"""Rows in ascending order, and how often each holds the term: 255 stands for more too."""

MOST: Final = 255
SKETCH_BITS: Final = 256
NOTHING: Final[Posting] = (np.empty(0, np.uint32), np.empty(0, np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class TermSets:
    """About the terms of each row: how many, how many different ones, and a sketch of the latter.

    A sketch has the bits that the hashes of its terms choose. Two sets that differ in n terms have sketches that differ
    in n bits at most.
    """

    lengths: NDArray[np.uint32]
    distinct: NDArray[np.uint32]
    sketches: NDArray[np.uint64]
    """(rows, words)"""


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """`terms` are hashes in ascending order; term i has `rows[starts[i] : starts[i + 1]]`, and `counts` likewise."""

    terms: NDArray[np.uint64]
    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint8]

    def find(self, term: np.uint64) -> Posting:
        place = int(self.terms.searchsorted(term))
        if place == len(self.terms) or self.terms[place] != term:
            return NOTHING
        held = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.rows[held], self.counts[held]

    @classmethod
    def build(cls, passages: pa.Array) -> tuple[Self, TermSets]:
        """From each passage's terms with a space between them; none is null."""
        split = pc.split_pattern(passages, " ")
        lengths = pc.list_value_length(split).to_numpy(zero_copy_only=False).astype(np.uint32)
        encoded = pc.list_flatten(split).dictionary_encode()
        hashes = hashes_of(encoded.dictionary.to_pylist())
        order = np.argsort(hashes)
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        rows = np.repeat(np.arange(len(passages), dtype=np.int64), lengths)
        numbers = number[encoded.indices.to_numpy(zero_copy_only=False)]
        pairs, counts = np.unique(numbers * len(passages) + rows, return_counts=True)
        terms, rows = np.divmod(pairs, max(1, len(passages)))
        starts = np.searchsorted(terms, np.arange(len(order) + 1))
        made = cls(hashes[order], starts, rows.astype(np.uint32), np.minimum(counts, MOST).astype(np.uint8))
        distinct = np.bincount(rows, minlength=len(passages)).astype(np.uint32)
        return made, TermSets(lengths, distinct, _sketches(hashes[order][terms], rows, len(passages)))

    @classmethod
    def merge(cls, parts: Sequence["Postings"], new_rows: Sequence[NDArray[np.int64]]) -> Self:
        """Of several segments. `new_rows` has for each row of a part its row in the result, -1 where it is left out;
        the rows of a later part come after those of an earlier one."""
        terms, numbers = np.unique(np.concatenate([part.terms for part in parts]), return_inverse=True)
        term_of = np.split(numbers, np.cumsum([len(part.terms) for part in parts])[:-1])
        all_terms = np.concatenate(
            [np.repeat(number, np.diff(part.starts)) for part, number in zip(parts, term_of, strict=True)]
        )
        all_rows = np.concatenate([mapped[part.rows] for part, mapped in zip(parts, new_rows, strict=True)])
        kept = np.flatnonzero(all_rows >= 0)
        order = kept[np.argsort(all_terms[kept], kind="stable")]
        sizes = np.bincount(all_terms[order], minlength=len(terms))
        there = sizes > 0
        return cls(
            terms[there],
            np.concatenate([[0], np.cumsum(sizes[there])]).astype(np.int64),
            all_rows[order].astype(np.uint32),
            np.concatenate([part.counts for part in parts])[order],
        )


def _sketches(hashes: NDArray[np.uint64], rows: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    bits = np.zeros((count, SKETCH_BITS), np.uint8)
    bits[rows, (hashes % SKETCH_BITS).astype(np.intp)] = 1
    return np.packbits(bits, axis=1).view(np.uint64)
