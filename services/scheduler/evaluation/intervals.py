"""How sure a mean is: 95 % confidence intervals over questions."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from services.scheduler.evaluation.metrics import mean, percentile

__all__ = ["Interval", "clustered", "interval"]

RESAMPLES: Final = 1_000
LARGEST_RESAMPLED: Final = 1_000
"""With more values the normal approximation gives the same interval, at no cost."""

NORMAL_95: Final = 1.959964


class Interval(BaseModel):
    """A mean, and the bounds of its 95 % confidence interval."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """The mean with its interval by the percentile bootstrap (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13). The same values always give the same interval. Needs one value."""
    middle, count = mean(values), len(values)
    if count > LARGEST_RESAMPLED:
        spread = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (count - 1) / count)
        return _rounded(middle, middle - NORMAL_95 * spread, middle + NORMAL_95 * spread)
    chance = random.Random(0)  # noqa: S311  (the same interval each time)
    means = [sum(chance.choices(values, k=count)) / count for _ in range(RESAMPLES)]
    return _rounded(middle, percentile(means, 2.5), percentile(means, 97.5))


def clustered(values: Sequence[float], groups: Sequence[str], *, resamples: int = RESAMPLES) -> Interval:
    """The mean with its interval, where values of one group go up and down together: by the percentile bootstrap over
    whole groups (Field and Welsh, "Bootstrapping clustered data", 2007). Needs one value, and the group of each."""
    sums: dict[str, float] = dict.fromkeys(groups, 0.0)
    for name, value in zip(groups, values, strict=True):
        sums[name] += value
    counts = Counter(groups)
    middle = mean(values)
    if len(sums) > LARGEST_RESAMPLED:
        # The variance of a ratio of two sums over groups.
        spread = math.sqrt(math.fsum((sums[name] - middle * counts[name]) ** 2 for name in sums)) / len(values)
        return _rounded(middle, middle - NORMAL_95 * spread, middle + NORMAL_95 * spread)
    whole = [(sums[name], counts[name]) for name in sums]
    chance = random.Random(0)  # noqa: S311  (the same interval each time)
    means = []
    for _ in range(resamples):
        drawn = chance.choices(whole, k=len(whole))
        means.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    return _rounded(middle, percentile(means, 2.5), percentile(means, 97.5))


def _rounded(middle: float, low: float, high: float) -> Interval:
    return Interval(mean=round(middle, 6), low=round(low, 6), high=round(high, 6))
