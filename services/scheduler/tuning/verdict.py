"""Whether the best trial is better than the default on questions that no trial has seen."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from services.scheduler.evaluation.intervals import Interval
from services.scheduler.evaluation.metrics import mean, percentile

__all__ = ["Verdict", "verdict"]

RESAMPLES: Final = 2_000


class Verdict(BaseModel):
    """`difference` is the mean nDCG@10 of best minus default over the held-out questions. The best is `better` only
    where the whole interval is above 0. `text` says so in words."""

    model_config = ConfigDict(frozen=True)

    better: bool
    default: float
    best: float
    difference: Interval
    questions: int
    groups: int
    text: str


def verdict(default: Sequence[float], best: Sequence[float], groups: Sequence[str], *, changed: bool) -> Verdict:
    """Compare the scores question by question; `changed` is whether the best has other options than the default. Needs
    sequences of one length, of at least one.

    The 95 % interval is by the paired percentile bootstrap over groups of questions (Field and Welsh, "Bootstrapping
    clustered data", 2007): questions about one document are right or wrong together. The same scores always give the
    same interval.
    """
    difference = _interval([one - other for one, other in zip(best, default, strict=True)], groups)
    better = changed and difference.low > 0
    figures = f"{difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    if better:
        said = f"The best trial is better than the default: nDCG@10 {figures}, on {len(best):,} held-out questions."
    elif changed:
        said = (
            f"The default stays: the best trial is not surely better. nDCG@10 {figures}, on {len(best):,} held-out "
            "questions."
        )
    else:
        said = "The default stays: no trial was better than it on the questions to tune on."
    return Verdict(
        better=better,
        default=round(mean(default), 6),
        best=round(mean(best), 6),
        difference=difference,
        questions=len(best),
        groups=len(set(groups)),
        text=said,
    )


def _interval(differences: Sequence[float], groups: Sequence[str]) -> Interval:
    sums: dict[str, float] = dict.fromkeys(groups, 0.0)
    for name, difference in zip(groups, differences, strict=True):
        sums[name] += difference
    counts = Counter(groups)
    whole = [(sums[name], counts[name]) for name in sums]
    chance = random.Random(0)  # noqa: S311  (the same interval each time)
    means = []
    for _ in range(RESAMPLES):
        drawn = chance.choices(whole, k=len(whole))
        means.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    low, high = percentile(means, 2.5), percentile(means, 97.5)
    return Interval(mean=round(mean(differences), 6), low=round(low, 6), high=round(high, 6))
