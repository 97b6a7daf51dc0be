"""Rows of a snapshot, as arrays of their numbers."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "distinct"]

Rows: TypeAlias = NDArray[np.int64]


def distinct(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts in ascending order, each once. NumPy's `unique` tells integers apart by hashing, which
    takes ten times as long for some thousands."""
    rows = np.concatenate(parts)
    rows.sort()
    first = np.empty(len(rows), np.bool_)
    first[:1] = True
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    return rows[first]
