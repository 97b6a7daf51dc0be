"""Search by meaning in a snapshot: all codes are compared, and the vectors of the nearest ones."""

import threading
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.retriever.serving.lexical_search import most
from services.retriever.serving.rows import Rows
from services.retriever.serving.snapshot import Snapshot
from services.retriever.serving.vectors import FARTHEST, code_of

__all__ = ["best_by_meaning", "similarities", "vectors_of"]

CANDIDATES: Final = 1_000
"""Nearest rows by code whose vectors are compared at least, and OVERSAMPLING times as many as wanted."""
OVERSAMPLING: Final = 10

BITS: Final = 256
"""Codes with fewer bits tell less, and so many times as many rows are compared."""

SAMPLED: Final = 8_192
"""Distances of which the CANDIDATES-th is told, where there are many."""


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.distances = np.empty(0, np.uint16)

    def of(self, rows: int) -> NDArray[np.uint16]:
        if len(self.distances) < rows:
            self.distances = np.empty(rows + rows // 4, np.uint16)
        return self.distances[:rows]


_scratch = _Scratch()


def best_by_meaning(
    snapshot: Snapshot,
    unit: NDArray[np.float32],
    allowed: NDArray[np.bool_] | None,
    depth: int,
    *,
    exhaustive: bool = False,
) -> tuple[Rows, NDArray[np.float32]]:
    """The nearest rows, at most `depth`, nearest first, with their cosines. `allowed` are those that count;
    None is all. Nothing is near to a vector of length 0. An exhaustive search compares the vectors of all rows."""
    if not unit.any():
        return np.empty(0, np.int64), np.empty(0, np.float32)
    wanted = max(CANDIDATES, OVERSAMPLING * depth) * max(1, BITS // len(unit))
    if exhaustive:
        wanted = len(snapshot.alive)
    rows = _candidates(snapshot, unit, allowed, wanted)
    near = similarities(snapshot, rows, unit)
    best = most(near, depth)
    return rows[best], near[best]


def similarities(snapshot: Snapshot, rows: Rows, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosines of rows, in ascending order, to a vector of length 1."""
    near = np.empty(len(rows), np.float32)
    bounds = np.searchsorted(rows, snapshot.offsets)
    for index, segment in enumerate(snapshot.segments):
        first, last = bounds[index], bounds[index + 1]
        if first < last:
            near[first:last] = segment.vectors.similarities(rows[first:last] - snapshot.offsets[index], unit)
    return near


def vectors_of(snapshot: Snapshot, rows: Rows) -> NDArray[np.float32]:
    """The vectors of rows in any order, (rows, dimension)."""
    places = zip(*snapshot.locate(rows), strict=True)
    return np.concatenate([snapshot.segments[index].vectors.take(np.array([number])) for index, number in places])


def _candidates(snapshot: Snapshot, unit: NDArray[np.float32], allowed: NDArray[np.bool_] | None, wanted: int) -> Rows:
    """At least `wanted` rows, if there are, in ascending order."""
    left = len(snapshot.alive) if allowed is None else int(np.count_nonzero(allowed))
    if left <= 2 * wanted:
        return np.arange(left) if allowed is None else np.flatnonzero(allowed)
    distances = _scratch.of(len(snapshot.alive))
    code = code_of(unit, snapshot.segments[0].vectors.mean)
    for index, segment in enumerate(snapshot.segments):
        segment.vectors.distances(code, distances[snapshot.offsets[index] : snapshot.offsets[index + 1]])
    if allowed is not None:
        distances[~allowed] = FARTHEST
    return _nearest(distances, wanted)


def _nearest(distances: NDArray[np.uint16], wanted: int) -> Rows:
    """The rows up to the distance of the wanted-th one, of which a sample tells; all of one distance or none."""
    if len(distances) > 4 * SAMPLED:
        step = len(distances) // SAMPLED
        sample = distances[::step]
        rank = -(-wanted * 5 // (4 * step)) + 4
        bound = int(np.partition(sample, rank)[rank])
        rows = np.flatnonzero(distances <= bound) if bound < FARTHEST else np.empty(0, np.intp)
        if wanted <= len(rows) <= 3 * wanted:
            return rows
    bound = int(np.searchsorted(np.cumsum(np.bincount(distances)), wanted))
    return np.flatnonzero(distances <= min(bound, FARTHEST - 1))
