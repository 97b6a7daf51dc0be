"""The vectors of a segment: one bit a dimension to choose candidates, 16 bits a dimension to score them.

The bits are the signs of a vector after the collection's mean is taken off, as in binary quantization (Charikar,
"Similarity Estimation Techniques from Rounding Algorithms", 2002, without its rotation). The distance of two codes is
the number of bits that differ. Scores are computed from 16 bits with one scale a vector: cosines are off by some 1e-6.
"""

import threading
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FARTHEST", "Codes", "Vectors", "code_of", "quantize"]

Matrix: TypeAlias = NDArray[np.float32]
Codes: TypeAlias = NDArray[np.uint64]
"""(words, rows): 64 dimensions a word."""

FARTHEST: Final = np.iinfo(np.uint16).max
"""A distance that no two codes have."""

FULL_SCALE: Final = np.iinfo(np.int16).max
WORD: Final = 64
WORDS_IN_BYTE: Final = 3
"""Words whose differing bits are counted in one byte."""
BLOCK: Final = 32_768
"""Rows whose codes are compared at a time, so that what is between two steps stays in the processor's cache."""
VECTORS_AT_ONCE: Final = 256
"""Rows whose vectors are compared at a time, for the same reason."""


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.words = np.empty(BLOCK, np.uint64)
        self.bits = np.empty(BLOCK, np.uint8)
        self.sums = np.empty(BLOCK, np.uint8)
        self.values = np.empty((VECTORS_AT_ONCE, 0), np.int16)
        self.floats = np.empty((VECTORS_AT_ONCE, 0), np.float32)

    def of(self, dimension: int) -> tuple[NDArray[np.int16], Matrix]:
        if self.values.shape[1] != dimension:
            self.values = np.empty((VECTORS_AT_ONCE, dimension), np.int16)
            self.floats = np.empty((VECTORS_AT_ONCE, dimension), np.float32)
        return self.values, self.floats


_scratch = _Scratch()


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """`values` is (rows, dimension), `scales` (rows,): their product is the vectors, of length 1 (or 0)."""

    values: NDArray[np.int16]
    scales: NDArray[np.float32]
    mean: Matrix
    codes: Codes

    @classmethod
    def of(cls, values: NDArray[np.int16], scales: NDArray[np.float32], mean: Matrix | None) -> Self:
        """With codes; from their own mean where none is given."""
        if mean is None:
            mean = _mean(values, scales)
        return cls(values, scales, mean, _codes(values, scales, mean))

    def recoded(self, mean: Matrix) -> "Vectors":
        """With codes that can be compared with those of another segment with this mean."""
        return self if np.array_equal(mean, self.mean) else Vectors.of(self.values, self.scales, mean)

    def similarities(self, rows: NDArray[np.integer], unit: Matrix) -> Matrix:
        """The cosines of these rows to a vector of length 1."""
        near = np.empty(len(rows), np.float32)
        values, floats = _scratch.of(len(unit))
        for first in range(0, len(rows), VECTORS_AT_ONCE):
            some = rows[first : first + VECTORS_AT_ONCE]
            count = len(some)
            # Any other mode than "raise" writes to `out` at once. No row is out of range.
            self.values.take(some, axis=0, out=values[:count], mode="clip")
            floats[:count] = values[:count]
            np.dot(floats[:count], unit, out=near[first : first + count])
        near *= self.scales[rows]
        return near

    def take(self, rows: NDArray[np.integer]) -> Matrix:
        taken: Matrix = self.values[rows].astype(np.float32)
        taken *= self.scales[rows, None]
        return taken

    def distances(self, code: NDArray[np.uint64], out: NDArray[np.uint16]) -> None:
        """The distances of all rows to a code, into `out`."""
        scratch, rows = _scratch, self.codes.shape[1]
        for first in range(0, rows, BLOCK):
            last = min(rows, first + BLOCK)
            words, bits, sums = (array[: last - first] for array in (scratch.words, scratch.bits, scratch.sums))
            out[first:last] = 0
            for start in range(0, len(code), WORDS_IN_BYTE):
                for number in range(start, min(start + WORDS_IN_BYTE, len(code))):
                    np.bitwise_xor(self.codes[number, first:last], code[number], out=words)
                    if number == start:
                        np.bitwise_count(words, out=sums)
                    else:
                        np.bitwise_count(words, out=bits)
                        np.add(sums, bits, out=sums)
                np.add(out[first:last], sums, out=out[first:last])


def code_of(unit: Matrix, mean: Matrix) -> NDArray[np.uint64]:
    """The code (words,) of one vector."""
    return _pack((unit > mean)[None])[:, 0]


def quantize(vectors: Matrix) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """The values and scales of vectors of any length: (rows, dimension) and (rows,)."""
    vectors = _units(vectors)
    largest = np.abs(vectors).max(axis=1, initial=0)
    scales = np.asarray(np.where(largest > 0, largest, 1) / FULL_SCALE, dtype=np.float32)
    return np.rint(vectors / scales[:, None]).astype(np.int16), scales


def _units(vectors: Matrix) -> Matrix:
    """With length 1; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _mean(values: NDArray[np.int16], scales: NDArray[np.float32]) -> Matrix:
    if not len(values):
        return np.zeros(values.shape[1], np.float32)
    total = np.zeros(values.shape[1], np.float64)
    for first in range(0, len(values), BLOCK):
        total += scales[first : first + BLOCK] @ values[first : first + BLOCK].astype(np.float32)
    return np.asarray(total / len(values), dtype=np.float32)


def _codes(values: NDArray[np.int16], scales: NDArray[np.float32], mean: Matrix) -> Codes:
    words = -(-values.shape[1] // WORD)
    codes = np.empty((words, len(values)), np.uint64)
    for first in range(0, len(values), BLOCK):
        rows = slice(first, first + BLOCK)
        codes[:, rows] = _pack(values[rows] * scales[rows, None] > mean)
    return codes


def _pack(bits: NDArray[np.bool_]) -> Codes:
    """(rows, dimension) into (words, rows)."""
    packed = np.packbits(bits, axis=1)
    padded = np.zeros((len(bits), -(-bits.shape[1] // WORD) * 8), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return np.ascontiguousarray(padded.view(np.uint64).T)
