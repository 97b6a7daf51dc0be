"""Experiment runs: jobs of some kinds, with what they were to do."""

import asyncio
from collections.abc import Sequence
from typing import Final

from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.jobs.visibility import get_job
from services.gateway.runs.formatter import as_run
from shared.contracts.jobs import Job
from shared.contracts.metrics import METRICS_FILE, MetricHistory
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.runs import RUN_KINDS
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore
from shared.tasks import for_each
from sluice.api.runs import Run

__all__ = ["as_runs", "metric_history", "run_job"]

READ_AT_ONCE: Final = 32


async def run_job(jobs: JobStore, cache: CollectionCache, principal: Principal, run: str) -> Job:
    """The job of a run. Raises Problem NOT_FOUND, or FORBIDDEN for a run with a collection that the caller has no key
    for."""
    found = await get_job(jobs, cache, principal, run)
    if found.kind not in RUN_KINDS:
        raise Problem(
            ProblemType.NOT_FOUND,
            f"The job '{run}' is of the kind '{found.kind}', which is not an experiment run: see /v1/jobs/{run}.",
        )
    return found


async def as_runs(jobs: JobStore, found: Sequence[Job]) -> list[Run]:
    """Jobs with what they were to do, in their order."""

    async def read(job: Job) -> Run:
        try:
            spec = await jobs.specs.get(job.tenant, job.id)
        except Problem:
            spec = None
        return as_run(job, spec)

    return await for_each(found, read, at_once=READ_AT_ONCE)


async def metric_history(artifacts: Artifacts, job: Job) -> MetricHistory:
    """What a run has logged so far, some seconds late while it runs; empty where that is nothing."""
    try:
        data = await artifacts.get(job.tenant, f"{job.id}/{METRICS_FILE}")
    except Problem:
        return MetricHistory()
    return await asyncio.to_thread(MetricHistory.decode, data)
