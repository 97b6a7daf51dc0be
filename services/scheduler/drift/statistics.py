"""How far numbers are from those of a reference."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reference"]

BINS: Final = 10
LEAST_SHARE: Final = 1e-4
"""A bin without values counts as one with this share, so that the index stays finite."""

FAR: Final = 3.09
"""Standard deviations beyond which one in a thousand lies of what is normally distributed."""

Values = NDArray[np.float64]


class Reference:
    """Rows that others are compared with; a NaN is a value that is missing."""

    def __init__(self, rows: Values) -> None:
        self._columns = [np.sort(column[~np.isnan(column)]) for column in rows.T]
        self._edges = [_edges(column) for column in self._columns]
        self._shares = [_shares(column, edges) for column, edges in zip(self._columns, self._edges, strict=True)]
        whole = rows[~np.isnan(rows).any(axis=1)]
        self._center = whole.mean(axis=0) if len(whole) else np.zeros(rows.shape[1])
        self._inverse = _inverse(whole)
        distances = self._distances(whole)
        # What is not normally distributed may lie farther out without being unusual.
        usual = float(np.quantile(distances, 0.999)) if len(distances) else 0.0
        self._farthest = max(usual, _chi_squared(rows.shape[1]))

    def stability(self, rows: Values) -> Values:
        """The population stability index of each column, by the deciles of the reference: below 0.1 alike, above 0.25
        different; NaN where there is nothing to compare."""
        return np.array([self._psi(index, column) for index, column in enumerate(rows.T)])

    def kolmogorov_smirnov(self, rows: Values) -> Values:
        """The largest distance between the two distributions of each column, 0 to 1; NaN as above."""
        return np.array([_ks(known, np.sort(_there(new))) for known, new in zip(self._columns, rows.T, strict=True)])

    def outliers(self, rows: Values) -> float:
        """The share of rows whose Mahalanobis distance is beyond that of 999 in 1,000 of the reference; NaN where no
        row is whole."""
        whole = rows[~np.isnan(rows).any(axis=1)]
        return float((self._distances(whole) > self._farthest).mean()) if len(whole) else math.nan

    def _psi(self, index: int, column: Values) -> float:
        new = _there(column)
        if not len(new) or not len(self._columns[index]):
            return math.nan
        before, now = self._shares[index], _shares(new, self._edges[index])
        return float(((now - before) * np.log(now / before)).sum())

    def _distances(self, rows: Values) -> Values:
        """Squared."""
        away = rows - self._center
        distances: Values = np.einsum("ij,jk,ik->i", away, self._inverse, away)
        return distances


def _there(column: Values) -> Values:
    there: Values = column[~np.isnan(column)]
    return there


def _edges(column: Values) -> Values:
    if not len(column):
        return column
    return np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]))


def _shares(column: Values, edges: Values) -> Values:
    """Values at an edge have a bin of their own: what has few values is told apart by them."""
    if not len(column):
        return np.ones(1)
    below, above = np.searchsorted(edges, column, "left"), np.searchsorted(edges, column, "right")
    counts = np.bincount(below + above, minlength=2 * len(edges) + 1)
    return np.maximum(counts / len(column), LEAST_SHARE)


def _ks(known: Values, new: Values) -> float:
    if not len(known) or not len(new):
        return math.nan
    points = np.concatenate((known, new))
    before = np.searchsorted(known, points, "right") / len(known)
    now = np.searchsorted(new, points, "right") / len(new)
    return float(np.abs(before - now).max())


def _inverse(rows: Values) -> Values:
    """Of the covariance, with a little of its own size on the diagonal: columns may depend on each other."""
    width = rows.shape[1]
    if len(rows) < 2:
        return np.eye(width)
    covariance = np.atleast_2d(np.cov(rows, rowvar=False))
    spread = np.diag(covariance).copy()
    spread[spread == 0] = 1.0
    return np.asarray(np.linalg.inv(covariance + 1e-6 * np.diag(spread)))


def _chi_squared(degrees: int) -> float:
    """The value beyond which one in a thousand lies, by Wilson and Hilferty's approximation."""
    part = 2 / (9 * degrees)
    return degrees * (1 - part + FAR * math.sqrt(part)) ** 3
