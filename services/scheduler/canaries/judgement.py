"""Whether a version does worse than the live one, by the questions that both have had at the same time.

The shares of the versions change from phase to phase, and so may what is asked, and how the platform does. So the
versions are compared within each phase: an hour that is bad for both counts against neither.

The counts are looked at again and again, so an interval of 95 % would sooner or later call an equal version worse. The
bounds here are those of three standard deviations.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.contracts.canaries import VersionCounts
from shared.contracts.jobs import CanarySpec

__all__ = ["Phase", "difference_low", "worse"]

DEVIATIONS: Final = 3.0

ENOUGH_TIMES: Final = 50
"""Answers of the live version in a phase from which its 95th percentile is taken."""

QUANTILE: Final = 0.95

Count = tuple[int, int]
"""Of how many questions something is true, and of how many it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What both versions were asked while their shares were the same."""

    canary: VersionCounts
    live: VersionCounts


def worse(phases: Sequence[Phase], spec: CanarySpec) -> str | None:
    """What the version does worse than it may, as a sentence; None where nothing is beyond doubt."""
    checks: tuple[tuple[str, str, float, Callable[[VersionCounts], Count]], ...] = (
        ("failed", "max_failed", spec.max_failed, _failed),
        ("were declined", "max_declined", spec.max_declined, _declined),
        ("were rated down", "max_disliked", spec.max_disliked, _disliked),
    )
    for words, name, allowed, part in checks:
        pairs = [(part(phase.canary), part(phase.live)) for phase in phases]
        if difference_low(pairs) > allowed:
            return (
                f"{_share(_sum(own for own, _ in pairs))} of its questions {words}, and "
                f"{_share(_sum(other for _, other in pairs))} of the live version's: worse by more than {name} "
                f"({allowed:g}) allows."
            )
    return _slower(phases, spec.max_slower)


def _failed(counts: VersionCounts) -> Count:
    return counts.failed, counts.asked


def _declined(counts: VersionCounts) -> Count:
    return counts.declined, counts.answered


def _disliked(counts: VersionCounts) -> Count:
    return max(0, counts.down), counts.rated


def difference_low(pairs: Sequence[tuple[Count, Count]]) -> float:
    """The lower bound of the mean difference of two shares; each pair is of one phase.

    Phases have the weights of Mantel and Haenszel. Of one it is Newcombe's hybrid score interval (method 10 of
    "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998); several
    are joined as Zou and Donner do it ("Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27, 2008).
    """
    weights = [total * other / (total + other) if total and other else 0.0 for (_, total), (_, other) in pairs]
    if not (weight := sum(weights)):
        return -1.0
    difference = doubt = 0.0
    for (own, other), part in zip(pairs, weights, strict=True):
        share, low, _ = _score_interval(*own)
        other_share, _, other_high = _score_interval(*other)
        difference += part / weight * (share - other_share)
        doubt += (part / weight) ** 2 * ((share - low) ** 2 + (other_high - other_share) ** 2)
    return difference - math.sqrt(doubt)


def _score_interval(count: int, total: int) -> tuple[float, float, float]:
    """A share with its score interval (Wilson 1927); of nothing it may be any."""
    if total == 0:
        return 0.0, 0.0, 1.0
    share, square = min(1.0, count / total), DEVIATIONS**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = DEVIATIONS / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return share, max(0.0, middle - half), min(1.0, middle + half)


def _slower(phases: Sequence[Phase], most: float) -> str | None:
    timed = [phase for phase in phases if phase.live.timed >= ENOUGH_TIMES and phase.canary.timed]
    usual = [phase.live.quantile(QUANTILE) for phase in timed]
    slow = sum(phase.canary.slower_than(most * time) for phase, time in zip(timed, usual, strict=True))
    total = sum(phase.canary.timed for phase in timed)
    _, low, _ = _score_interval(slow, total)
    if low <= 1 - QUANTILE:
        return None
    return (
        f"{_share((slow, total))} of its answers took longer than {most * usual[-1]:g} s; of the live version's "
        f"{QUANTILE:.0%} took at most {usual[-1]:g} s, and max_slower is {most:g}."
    )


def _sum(counts: Iterable[Count]) -> Count:
    found = list(counts)
    return sum(count for count, _ in found), sum(total for _, total in found)


def _share(part: Count) -> str:
    count, total = part
    return f"{count / total if total else 0:.1%} ({count:,} of {total:,})"
