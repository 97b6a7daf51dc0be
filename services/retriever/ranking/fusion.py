"""Reciprocal rank fusion: one ranking from several that need not share a scale.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
Methods", SIGIR 2009: the score of an item is the sum over the rankings of 1 / (k + rank), ranks from 1.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Fused", "reciprocal_rank_fusion"]

K = TypeVar("K", bound=Hashable)

SMOOTHING = 60
"""The constant k of the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused(Generic[K]):
    """An item with its score and its rank (from 1) in each ranking, None where it is absent."""

    key: K
    score: float
    ranks: tuple[int | None, ...]


def reciprocal_rank_fusion(*rankings: Sequence[K], k: int = SMOOTHING) -> list[Fused[K]]:
    """All items of the rankings, best first.

    Each ranking lists its items best first, each item once. Equal scores are ordered by the rank in the first
    ranking, then in the second and so on, so the result depends on the arguments only.
    """
    places = [{key: rank for rank, key in enumerate(ranking, start=1)} for ranking in rankings]
    fused = []
    for key in dict.fromkeys(key for ranking in rankings for key in ranking):
        ranks = tuple(place.get(key) for place in places)
        # fsum rounds once, so that items with the same ranks in another order tie exactly.
        score = math.fsum(1.0 / (k + rank) for rank in ranks if rank is not None)
        fused.append(Fused(key=key, score=score, ranks=ranks))
    return sorted(fused, key=_order)


def _order(item: Fused[K]) -> tuple[float, tuple[float, ...]]:
    return -item.score, tuple(math.inf if rank is None else rank for rank in item.ranks)
