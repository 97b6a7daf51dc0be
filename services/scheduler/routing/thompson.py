"""Shares of variants by Thompson sampling on ratings, and what they would have been worth.

A variant's ratings are draws of a coin whose bias nobody knows; before the first one every bias is as likely. With so
many thumbs up and down its bias follows Beta(1 + up, 1 + down). The share of a variant is the probability that its bias
is the greatest (Thompson, "On the likelihood that one unknown probability exceeds another", Biometrika 25, 1933).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["Estimate", "Rated", "best_probabilities", "bounded", "estimate"]

DRAWS: Final = 20_000
RESAMPLES: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """A rated answer: its variant, the probability with which that was drawn, and whether the rating is thumbs up."""

    variant: str
    probability: float
    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Shares of thumbs up that the shares of variants of today and the new ones would have had on the same questions,
    and the difference with its 95 % interval."""

    now: float
    new: float
    gain: float
    low: float
    high: float


def best_probabilities(ratings: Mapping[str, tuple[int, int]], seed: int) -> dict[str, float]:
    """The probability of each variant to be the best, from its thumbs up and down. The same seed gives the same."""
    chance = np.random.default_rng(seed)
    draws = np.stack([chance.beta(1 + up, 1 + down, DRAWS) for up, down in ratings.values()])
    wins = np.bincount(draws.argmax(axis=0), minlength=len(ratings))
    return {variant: float(count) / DRAWS for variant, count in zip(ratings, wins, strict=True)}


def bounded(
    wanted: Mapping[str, float], now: Mapping[str, float], *, floor: float, max_change: float
) -> dict[str, float]:
    """The shares nearest to the wanted ones of which none is below `floor` or further than `max_change` from today's.

    Both are shares by variant that add up to 1, of the same variants. A floor that all together cannot have is an equal
    share; a variant that is below the floor today comes up to it at once.
    """
    floor = min(floor, 1 / len(wanted))
    low = {name: max(floor, now[name] - max_change) for name in wanted}
    high = {name: max(low[name], min(1.0, now[name] + max_change)) for name in wanted}
    # The bound of the change gives way where the floor of many takes more than it leaves.
    high = dict.fromkeys(wanted, 1.0) if sum(high.values()) < 1 else high
    low = dict.fromkeys(wanted, floor) if sum(low.values()) > 1 else low
    left, right = -1.0, 1.0
    for _ in range(60):  # the nearest point has one shift for all that no bound holds
        shift = (left + right) / 2
        total = sum(min(high[name], max(low[name], wanted[name] + shift)) for name in wanted)
        left, right = (shift, right) if total < 1 else (left, shift)
    shares = {name: min(high[name], max(low[name], wanted[name] + right)) for name in wanted}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def estimate(rated: Mapping[Rated, int], now: Mapping[str, float], new: Mapping[str, float], seed: int) -> Estimate:
    """What both shares are worth on logged answers, which are counted, by self-normalised inverse propensity scores
    (Swaminathan and Joachims, "The self-normalized estimator for counterfactual learning", 2015). The interval is by
    the bootstrap.

    Only answers of variants that both shares know count. Needs one.
    """
    up = np.array([one.up for one in rated], dtype=float)
    logged = np.array(list(rated.values()))
    weights = np.array([[shares[one.variant] / one.probability for one in rated] for shares in (now, new)])
    chance = np.random.default_rng(seed)
    counts = chance.multinomial(logged.sum(), logged / logged.sum(), RESAMPLES)
    sums, norms = (weights * up) @ counts.T, weights @ counts.T
    values = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    before, after = ((weights * up) @ logged / (weights @ logged)).tolist()
    low, high = np.percentile(values[1] - values[0], [2.5, 97.5]).tolist()
    return Estimate(now=before, new=after, gain=after - before, low=low, high=high)
