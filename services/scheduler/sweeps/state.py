"""How far a sweep is: the checkpoint of a job of the kind `sweep`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict

from shared.contracts.jobs import TrialSetting

__all__ = ["SweepState", "SweepTrial", "TrialState", "best"]


class TrialState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PRUNED = "pruned"


class SweepTrial(BaseModel):
    """A setting and the `job` that trains with it. Once it has `ended` it has a `score`, the measure on the validation
    rows at the best look, and `tested`, that on the test rows; or an `error` that says why it has not.

    Else `pruned` says why it ends early, from before its job is asked to. It had done `share` of its steps then, and
    `last` is what its last look had measured, None where that was not finite."""

    model_config = ConfigDict(frozen=True)

    setting: TrialSetting
    job: str
    ended: bool = False
    score: float | None = None
    tested: float | None = None
    model: str = ""
    hash: str = ""
    seconds: float = 0.0
    error: str = ""
    pruned: str = ""
    share: float = 0.0
    last: float | None = None

    @property
    def state(self) -> TrialState:
        if not self.ended:
            return TrialState.RUNNING
        if self.error:
            return TrialState.FAILED
        return TrialState.PRUNED if self.pruned else TrialState.SUCCEEDED


class SweepState(BaseModel):
    """`began` is when the first try began, in Unix seconds. The first of the `trials` is the default. A trial is here
    before its job is submitted."""

    model_config = ConfigDict(frozen=True)

    began: float
    trials: tuple[SweepTrial, ...] = ()

    @property
    def running(self) -> list[SweepTrial]:
        return [trial for trial in self.trials if not trial.ended]

    @property
    def ended(self) -> list[SweepTrial]:
        return [trial for trial in self.trials if trial.ended]

    @property
    def failed(self) -> int:
        return sum(trial.state is TrialState.FAILED for trial in self.trials)

    @property
    def pruned(self) -> int:
        return sum(trial.state is TrialState.PRUNED for trial in self.trials)

    def begun(self, trial: SweepTrial) -> Self:
        return self.model_copy(update={"trials": (*self.trials, trial)})

    def changed(self, trial: SweepTrial) -> Self:
        """With this trial in the place of the one with the same job."""
        trials = tuple(trial if one.job == trial.job else one for one in self.trials)
        return self.model_copy(update={"trials": trials})


def best(trials: Sequence[SweepTrial], *, minimizes: bool = False) -> SweepTrial | None:
    """The highest score, or the lowest; of equals the earliest. None where no trial has one."""
    scored = [trial for trial in trials if trial.score is not None]
    sign = -1 if minimizes else 1
    return max(scored, key=lambda trial: sign * (trial.score or 0.0), default=None)
