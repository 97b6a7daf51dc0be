"""Which trials are ended early, because they do worse than others did by then."""

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from services.scheduler.sweeps.report import WORDS
from shared.contracts.jobs import SweepSpec

__all__ = ["Curve", "Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a training of `steps` steps, at least 1, has measured on the validation rows: at its looks, in their order,
    the step and the value. The value is None where it was not finite."""

    steps: int
    looks: Sequence[tuple[int, float | None]]

    def at(self, share: float) -> float | None:
        """The value after this share of the steps. Between two looks it is on the line between them, and after the last
        look it is that of the last. None before the first look."""
        known = [(step / self.steps, value) for step, value in self.looks if value is not None]
        place = bisect.bisect_right(known, share, key=lambda look: look[0])
        if not place:
            return None
        (before, low) = known[place - 1]
        if place == len(known):
            return low
        (after, high) = known[place]
        return low + (high - low) * (share - before) / (after - before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a trial is pruned: after `share` of its steps it had `last` at its last look, None where that was not
    finite."""

    reason: str
    share: float
    last: float | None


def judge(curve: Curve, succeeded: Sequence[Curve], spec: SweepSpec) -> Verdict | None:
    """Whether to prune a trial that runs, after its last look; None for a trial that goes on.

    It is Optuna's median pruner: the best value so far is worse than the median of what the trials that have succeeded
    had after the same share of their steps. Trainings of other lengths are compared by the share, as the learning rate
    rises and falls by it. `spec.prune_after` of them have a value there, or nothing is decided; neither is anything
    while the learning rate rises. Equal is not worse. The same curves always give the same.

    Successive halving would end three of four trials at the first rung, and keeps its rungs in the study. Hyperband
    needs more trials than sweeps have. Wilcoxon's test compares scores of the same questions, not looks of a training.
    """
    if not curve.looks:
        return None
    step, last = curve.looks[-1]
    share = step / curve.steps
    others = [value for one in succeeded if (value := one.at(share)) is not None]
    worst = math.inf if spec.minimizes else -math.inf
    found = {look: worst if value is None else value for look, value in curve.looks}
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=spec.prune_after, n_warmup_steps=int(spec.train.warmup * curve.steps) + 1
    )
    study = optuna.create_study(direction="minimize" if spec.minimizes else "maximize", pruner=pruner)
    for value in others:
        study.add_trial(optuna.trial.create_trial(value=value, intermediate_values={step: value}))
    if not pruner.prune(study, optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values=found)):
        return None
    top = min(found.values()) if spec.minimizes else max(found.values())
    said = f"{top:.4f}" if math.isfinite(top) else "of no finite value"
    of = f"{len(others)} trials" if len(others) > 1 else "1 trial"
    return Verdict(
        reason=f"{WORDS[spec.measure]} {said} after look {len(found)}, {share:.0%} of the steps, and the median of "
        f"{of} is {statistics.median(others):.4f}",
        share=share,
        last=last,
    )
