"""/v1/runs"""

import asyncio
from typing import Annotated

from fastapi import Query

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import ArtifactsDependency, CollectionCacheDependency, JobsDependency
from services.gateway.http.openapi import problems
from services.gateway.jobs.filters import JobListingDependency, check_job_id
from services.gateway.runs.formatter import as_series
from services.gateway.runs.service import as_runs, metric_history, run_job
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from shared.contracts.runs import RUN_KINDS
from sluice.api.runs import MetricList, Run, RunPage

__all__ = ["router"]

router = authenticated_router("runs")


@router.get("/v1/runs", summary="List experiment runs", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def list_newest(
    jobs: JobsDependency, listing: JobListingDependency, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> RunPage:
    """One page of the runs, newest first: jobs of the kinds that are experiments, and pipelines."""
    found, next_page = await listing.newest(limit, kinds=RUN_KINDS)
    return RunPage(runs=tuple(await as_runs(jobs, found)), next=next_page)


@router.get("/v1/runs/{run}", summary="Look at an experiment run", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(run: str, jobs: JobsDependency, cache: CollectionCacheDependency, principal: PrincipalDependency) -> Run:
    found = await run_job(jobs, cache, principal, check_job_id(run))
    return (await as_runs(jobs, [found]))[0]


@router.get(
    "/v1/runs/{run}/metrics",
    summary="Look at the metrics that a run has logged, by step",
    responses=problems(ProblemType.NOT_FOUND),
)
@requires(Action.READ)
async def metrics(
    run: str,
    jobs: JobsDependency,
    artifacts: ArtifactsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
    name: Annotated[list[str], Query(description="Only these metrics; may be repeated.", max_length=64)] = [],  # noqa: B006
) -> MetricList:
    """While a run goes on, what it has logged is here some seconds later. Of a metric with more than 2,000 values an
    even share is kept, the last one always."""
    found = await run_job(jobs, cache, principal, check_job_id(run))
    history = await metric_history(artifacts, found)
    chosen = [one for one in history.names if not name or one in name]
    return await asyncio.to_thread(lambda: MetricList(metrics=tuple(as_series(one, history) for one in chosen)))
