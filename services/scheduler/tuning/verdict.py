"""Whether the best trial is better than the default on questions that no trial has seen."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from services.scheduler.evaluation.intervals import Interval, paired

__all__ = ["Verdict", "verdict"]


class Verdict(BaseModel):
    """`difference` is the mean of best minus default over the held-out questions. The best is `better` only where the
    whole interval is above 0."""

    model_config = ConfigDict(frozen=True)

    difference: Interval
    better: bool
    text: str


def verdict(default: Sequence[float], best: Sequence[float]) -> Verdict:
    """Compare the scores question by question. Needs two sequences of one length, of at least one."""
    difference = paired(best, default)
    better = difference.low > 0
    figures = f"{difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    said = "better" if better else "not better"
    return Verdict(
        difference=difference, better=better, text=f"{said} than the default on held-out questions ({figures})"
    )
