"""Whether the best trial is better than the default on questions that no trial has seen."""

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from services.scheduler.evaluation.intervals import Interval, clustered
from services.scheduler.evaluation.metrics import mean

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

    The 95 % interval is by the paired bootstrap over groups of questions: questions about one document are right or
    wrong together. The same scores always give the same interval.
    """
    differences = [one - other for one, other in zip(best, default, strict=True)]
    difference = clustered(differences, groups, resamples=RESAMPLES)
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
