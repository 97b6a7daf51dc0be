"""What the trainings of a sweep have logged by step."""

import time
from collections.abc import Sequence
from typing import Final

from anyio import to_thread

from services.scheduler.sweeps.pruning import Curve
from services.scheduler.sweeps.state import SweepTrial
from shared.contracts.jobs import Job
from shared.contracts.metrics import METRICS_FILE, MetricHistory
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore

__all__ = ["TrialCurves"]

READ_EVERY: Final = 5.0
"""Seconds between two readings of one training, which writes its metrics as often."""


class TrialCurves:
    """Of one sweep. What a training that has ended has logged is read once."""

    def __init__(self, job_store: JobStore, artifacts: Artifacts, tenant: str, measure: str) -> None:
        self._job_store = job_store
        self._artifacts = artifacts
        self._tenant = tenant
        self._measure = measure
        self._ended: dict[str, Curve] = {}
        self._read: dict[str, float] = {}
        """When each training was read last, by the monotonic clock."""

    async def history(self, trial: SweepTrial) -> MetricHistory:
        """Nothing where that is gone."""
        try:
            data = await self._artifacts.get(self._tenant, f"{trial.job}/{METRICS_FILE}")
        except Problem as problem:
            if problem.kind is not ProblemType.NOT_FOUND:
                raise
            return MetricHistory()
        return await to_thread.run_sync(MetricHistory.decode, data)

    async def running(self, trial: SweepTrial, job: Job) -> Curve | None:
        """None where it was read just before, and where nothing is known of it yet."""
        now = time.monotonic()
        if job.progress.total < 1 or now - self._read.get(trial.job, -READ_EVERY) < READ_EVERY:
            return None
        self._read[trial.job] = now
        return await self._curve(trial, job)

    async def succeeded(self, trials: Sequence[SweepTrial]) -> list[Curve]:
        """Of the trials that have a score, as far as their jobs are there."""
        found = []
        for trial in trials:
            if trial.score is not None and trial.job not in self._ended:
                try:
                    job = await self._job_store.get(self._tenant, trial.job)
                except Problem as problem:
                    if problem.kind is not ProblemType.NOT_FOUND:
                        raise
                    continue
                self._ended[trial.job] = await self._curve(trial, job)
            if trial.job in self._ended:
                found.append(self._ended[trial.job])
        return found

    async def _curve(self, trial: SweepTrial, job: Job) -> Curve:
        points = (await self.history(trial)).points(f"validation_{self._measure}")
        return Curve(steps=max(1, job.progress.total), looks=[(point.step, point.value) for point in points])
