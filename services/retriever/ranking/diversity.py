"""Maximal marginal relevance: passages that are relevant and say something new.

Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries",
SIGIR 1998: next comes the passage with the greatest (1 - d) * relevance - d * similarity to any that is chosen already.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["diversified"]


def diversified(relevance: Sequence[float], vectors: NDArray[np.float32], diversity: float, limit: int) -> list[int]:
    """The places of at most `limit` passages in their new order.

    `vectors` are (n, dimension) of length 1; `diversity` is d, 0 to 1. Equal values keep the order that is given, and
    a smaller limit gives the beginning of what a greater one gives.
    """
    left = np.array(relevance, dtype=np.float64) * (1 - diversity)
    nearest = np.zeros(len(left))
    chosen: list[int] = []
    for _ in range(min(limit, len(left))):
        best = int(np.argmax(left - diversity * nearest))
        chosen.append(best)
        left[best] = -np.inf
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen
