"""How far a search is: the checkpoint of a job of the kind `tune`."""

from typing import Self

from pydantic import BaseModel, ConfigDict

from services.scheduler.tuning.search import Trial
from services.scheduler.tuning.verdict import Verdict

__all__ = ["TuneState"]


class TuneState(BaseModel):
    """Decided by the first try: the id of the `collection`, the version `base` that was live, the digest of the
    `questions`, and whether a reranker answers. `seconds` is how long the trials took. `written` is the name of the
    version that is made in the end, and `verdict` what was found of it.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    base: str
    questions: str
    reranks: bool = False
    trials: tuple[Trial, ...] = ()
    seconds: float = 0.0
    written: str | None = None
    verdict: Verdict | None = None

    def with_trial(self, trial: Trial) -> Self:
        return self.model_copy(update={"trials": (*self.trials, trial), "seconds": self.seconds + trial.seconds})
