"""Whether two samples are of one distribution, by tests of permutations.

The labels of the pooled values are shuffled: where both samples are of one distribution, the distance between them is
as likely to be that of any other division. That holds for small samples and for values that repeat, as long as the
values of a sample do not depend on each other.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "energy_test", "kolmogorov_smirnov_test"]

PERMUTATIONS: Final = 999
SEED: Final = 7

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """A distance, 0 (alike) to 1, and the probability of such a distance or a larger one between samples of one
    distribution: at least 0.001."""

    distance: float
    p_value: float


def energy_test(first: Values, second: Values) -> Difference:
    """How far two samples of vectors, as rows, are from each other: the energy coefficient.

    It is (2 E|X-Y| - E|X-X'| - E|Y-Y'|) / 2 E|X-Y|, with unbiased means, by G. J. Szekely and M. L. Rizzo, "Energy
    statistics: a class of statistics based on distances", Journal of Statistical Planning and Inference 143 (2013).
    Vectors are brought to length 1, so distances are those of cosines. Each sample has at least two rows.
    """
    pooled = np.concatenate((_unit(first), _unit(second)))
    distances = np.sqrt(np.maximum(2 - 2 * pooled @ pooled.T, 0))
    np.fill_diagonal(distances, 0)
    n, m = len(first), len(second)
    divisions = _divisions(n, m)
    within_first = ((divisions @ distances) * divisions).sum(axis=1)
    between = divisions @ distances.sum(axis=1) - within_first
    within_second = distances.sum() - 2 * between - within_first
    apart = 2 * between / (n * m)
    energy = apart - within_first / (n * (n - 1)) - within_second / (m * (m - 1))
    return _judged(np.divide(energy, apart, out=np.zeros_like(energy), where=apart > 0))


def kolmogorov_smirnov_test(first: Values, second: Values) -> Difference:
    """How far two samples of numbers are from each other: the largest distance of their distribution functions, by
    N. Smirnov, "Table for estimating the goodness of fit of empirical distributions", Annals of Mathematical
    Statistics 19 (1948). Neither sample is empty."""
    n, m = len(first), len(second)
    pooled = np.concatenate((first, second))
    order = np.argsort(pooled, kind="stable")
    ordered = pooled[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # equal values are one step
    divisions = _divisions(n, m)[:, order]
    below = np.cumsum(divisions, axis=1)[:, last]
    counts = np.arange(1, n + m + 1)[last]
    return _judged(np.abs(below / n - (counts - below) / m).max(axis=1))


def _unit(rows: Values) -> Values:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0), dtype=np.float64)


def _divisions(n: int, m: int) -> Values:
    """Rows of 1 for what is in the first sample and 0 else: the division as it is, then shuffled ones."""
    actual = np.repeat([1.0, 0.0], [n, m])
    # The same each time, so that equal samples have equal results.
    shuffled = np.random.default_rng(SEED).permuted(np.tile(actual, (PERMUTATIONS, 1)), axis=1)
    return np.vstack((actual, shuffled))


def _judged(distances: Values) -> Difference:
    actual = float(distances[0])
    as_far = int((distances[1:] >= actual - 1e-12).sum())
    return Difference(distance=min(1.0, max(0.0, actual)), p_value=(1 + as_far) / (1 + PERMUTATIONS))
