"""The jobs of trials: their ids, and what they have found."""

import hashlib
from typing import Final

from services.scheduler.sweeps.state import SweepTrial
from shared.contracts.jobs import Job, JobState

__all__ = ["trial_id", "with_result"]

LONGEST_ID: Final = 64
LONGEST_ERROR: Final = 400


def trial_id(sweep: str, number: int) -> str:
    """The one id that a trial's job has, however often it is submitted."""
    name = f"{sweep}-trial{number}"
    if len(name) <= LONGEST_ID:
        return name
    return f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:23]}"


def with_result(trial: SweepTrial, job: Job, measure: str) -> SweepTrial:
    """The trial with what its job, which has ended, has found. One that was to be pruned is, if its job was cancelled;
    an end of the job's own counts as any."""
    seconds = float(str(job.outputs.get("seconds") or 0.0))
    if trial.pruned and job.state is JobState.CANCELLED:
        if job.started_at is not None and job.finished_at is not None:
            seconds = round(job.finished_at - job.started_at, 3)
        return trial.model_copy(update={"ended": True, "seconds": seconds})
    trial = trial.model_copy(update={"pruned": "", "share": 0.0, "last": None})
    if job.state is not JobState.SUCCEEDED:
        why = (job.error.detail or job.error.title) if job.error is not None else f"The job was {job.state}."
        return trial.model_copy(update={"ended": True, "error": why[:LONGEST_ERROR], "seconds": seconds})
    score, tested = job.outputs.get(f"{measure}_validation"), job.outputs.get(f"{measure}_after")
    return trial.model_copy(
        update={
            "ended": True,
            "score": float(score) if isinstance(score, int | float) else None,
            "tested": float(tested) if isinstance(tested, int | float) else None,
            "model": str(job.outputs["model"]),
            "hash": str(job.outputs["hash"]),
            "seconds": seconds,
        }
    )
