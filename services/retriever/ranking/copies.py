"""Copies and near-copies of one passage: what says the same in almost the same words."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.analysis.copies import are_copies

__all__ = ["LikelyCopies", "fold_copies"]

COPY_SCORE: Final = 0.95
"""Of a passage's score, below which no copy of it is looked for."""

LikelyCopies: TypeAlias = Callable[[int], NDArray[np.bool_]]
"""For the place of a passage, which of all passages may be copies of it. What it leaves out is none."""


def fold_copies(
    order: Iterable[int],
    scores: NDArray[np.float64],
    wanted: int,
    terms_of: Callable[[int], str],
    likely: LikelyCopies | None = None,
) -> dict[int, Sequence[int]]:
    """The best `wanted` places, best first, each with the places of its copies, best first too.

    `order` has the places, best first; `scores` the scores by place. `terms_of` gives the terms of a passage with a
    space between them.
    """
    kept: dict[int, list[int]] = {}
    suspects: dict[int, NDArray[np.bool_]] = {}
    suspected = np.full(len(scores), likely is None)
    sets: dict[int, frozenset[str]] = {}
    last = 0.0

    def terms(place: int) -> frozenset[str]:
        if place not in sets:
            sets[place] = frozenset(terms_of(place).split(" "))
        return sets[place]

    def repeats(place: int, other: int) -> bool:
        return (likely is None or bool(suspects[other][place])) and are_copies(terms(place), terms(other))

    for place in order:
        # Copies score almost the same, so those of the last one wanted come soon after it.
        if len(kept) >= wanted and scores[place] < COPY_SCORE * last:
            break
        original = next((other for other in kept if repeats(place, other)), None) if suspected[place] else None
        if original is not None:
            kept[original].append(place)
        elif len(kept) < wanted:
            kept[place] = []
            last = float(scores[place])
            if likely:
                suspects[place] = likely(place)
                suspected |= suspects[place]
    return {place: tuple(copies) for place, copies in kept.items()}
