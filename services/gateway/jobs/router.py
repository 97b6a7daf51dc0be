"""/v1/jobs"""

import asyncio
from typing import Annotated, Final

from fastapi import Depends, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    ArtifactsDependency,
    BusDependency,
    CollectionCacheDependency,
    DeadLettersDependency,
    JobsDependency,
    NotifierDependency,
)
from services.gateway.http.body import read_json, refuse_other_sites
from services.gateway.http.downloads import download
from services.gateway.http.models import JobBody, JobList
from services.gateway.http.openapi import event_stream, problems, request_body
from services.gateway.jobs.audit import audit_entries
from services.gateway.jobs.event_stream import JobEventStream
from services.gateway.jobs.filters import JobListingDependency, check_job_id
from services.gateway.jobs.idempotency import IdempotencyKey, job_id_for
from services.gateway.jobs.service import (
    ArtifactList,
    AuditList,
    Cancel,
    NewJob,
    Retry,
    StepList,
    accepted,
    shown_spec,
    submit,
)
from services.gateway.jobs.steps import pipeline_steps
from services.gateway.jobs.visibility import get_job, need_artifact
from shared.contracts.jobs import AnyJobSpec, Job
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import Artifacts
from shared.stores.checkpoints import Checkpoints
from shared.stores.jobs.retry import run_again
from shared.stores.jobs.store import JobStore
from sluice.api.jobs import Artifact

__all__ = ["router"]

router = authenticated_router("jobs")

MAX_BODY: Final = 512 * 1024
"""Bytes; an event may have a megabyte."""


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    status_code=status.HTTP_202_ACCEPTED,
    openapi_extra=request_body(json=NewJob),
    responses=problems(ProblemType.CONFLICT, ProblemType.QUEUE_FULL, ProblemType.TOO_LARGE),
)
@requires(Action.JOBS)
async def create(
    request: Request,
    response: Response,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """Puts a job on the queue. A pipeline is checked as a whole before it is taken."""
    body = await read_json(request, NewJob, MAX_BODY)
    made = await submit(jobs, cache, principal, job_id_for(principal, idempotency_key), body.spec, body.options())
    return accepted(response, made)


@router.get("/v1/jobs", summary="List jobs", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def list_newest(listing: JobListingDependency, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> JobList:
    """One page of the jobs, newest first."""
    found, next_page = await listing.newest(limit)
    return JobList(jobs=found, next=next_page)


@router.get("/v1/jobs/{job}", summary="Look at a job", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(job: str, jobs: JobsDependency, cache: CollectionCacheDependency, principal: PrincipalDependency) -> Job:
    return await _job(jobs, cache, principal, job)


@router.get("/v1/jobs/{job}/spec", summary="Look at what a job was to do", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get_spec(
    job: str, jobs: JobsDependency, cache: CollectionCacheDependency, principal: PrincipalDependency
) -> AnyJobSpec:
    """The values of a command's environment are shown to keys with the action `system` alone."""
    await _job(jobs, cache, principal, job)
    return shown_spec(principal, await jobs.specs.get(principal.tenant, job))


@router.post(
    "/v1/jobs/{job}/cancel",
    summary="Cancel a job",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[Depends(refuse_other_sites)],
    openapi_extra=request_body(json=Cancel),
    responses=problems(ProblemType.NOT_FOUND, ProblemType.TOO_LARGE),
)
@requires(Action.JOBS)
async def cancel(
    job: str,
    request: Request,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> JobBody:
    """Ends a job that waits; one that runs hears of it at once and ends within a second or so.

    A job that has ended stays as it is.
    """
    body = await read_json(request, Cancel, MAX_BODY) if _has_body(request) else Cancel()
    await _job(jobs, cache, principal, job)
    by = principal.by(body.by)
    return JobBody(job=await jobs.cancel(principal.tenant, job, by=by, reason=body.reason))


@router.post(
    "/v1/jobs/{job}/retry",
    summary="Try a failed job again",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[Depends(refuse_other_sites)],
    openapi_extra=request_body(json=Retry),
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL, ProblemType.TOO_LARGE),
)
@requires(Action.JOBS)
async def retry(
    job: str,
    request: Request,
    jobs: JobsDependency,
    dead_letters: DeadLettersDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> JobBody:
    """Puts a failed job on the queue again and forgets its dead letter; it goes on from its last checkpoint.

    A pipeline keeps the steps that have succeeded.
    """
    body = await read_json(request, Retry, MAX_BODY) if _has_body(request) else Retry()
    await _job(jobs, cache, principal, job)
    principal.need_spec(await jobs.specs.get(principal.tenant, job))
    queued = await run_again(jobs, dead_letters, principal.tenant, job, by=principal.by(body.by), reason=body.reason)
    return JobBody(job=queued)


@router.get(
    "/v1/jobs/{job}/steps", summary="Look at the steps of a pipeline", responses=problems(ProblemType.NOT_FOUND)
)
@requires(Action.READ)
async def steps(
    job: str,
    bus: BusDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> StepList:
    """Where each step of a pipeline stands, and which steps it waits for; empty for a job that is not a pipeline."""
    found = await _job(jobs, cache, principal, job)
    if found.kind != "pipeline":
        return StepList(steps=[])
    state = await Checkpoints(bus.jetstream).pipeline(principal.tenant, job)
    spec = await jobs.specs.get(principal.tenant, job)
    # A check takes a while.
    return StepList(steps=await asyncio.to_thread(pipeline_steps, spec, state, ended=found.state.ended))


@router.get(
    "/v1/jobs/{job}/audit", summary="See what became of a job, and why", responses=problems(ProblemType.NOT_FOUND)
)
@requires(Action.READ)
async def history(
    job: str,
    bus: BusDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> AuditList:
    """Every change of the job's state: when, who and why."""
    await _job(jobs, cache, principal, job)
    return AuditList(events=await audit_entries(bus.jetstream, principal.tenant, job))


@router.get("/v1/jobs/{job}/artifacts", summary="List what a job has made", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def artifacts(
    job: str,
    jobs: JobsDependency,
    artifacts: ArtifactsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> ArtifactList:
    found = await _job(jobs, cache, principal, job)
    sizes = [(file, await _size(artifacts, principal, f"{job}/{file}")) for file in found.artifacts]
    made = [Artifact(name=f"{job}/{file}", file=file, bytes=size) for file, size in sizes if size is not None]
    return ArtifactList(artifacts=made)


@router.get(
    "/v1/jobs/{job}/artifacts/{file}",
    summary="Download what a job has made",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The file", "content": {"application/octet-stream": {}}},
        **problems(ProblemType.NOT_FOUND, ProblemType.INVALID_NAME),
    },
)
@requires(Action.READ)
async def artifact(
    job: str,
    file: str,
    artifacts: ArtifactsDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> Response:
    await need_artifact(jobs, cache, principal, check_job_id(job))
    return await download(artifacts, principal.tenant, f"{job}/{file}")


@router.get(
    "/v1/jobs/{job}/events",
    summary="Follow a job",
    response_class=Response,
    responses={
        200: {
            "description": "The job now and after each change",
            "content": event_stream("`progress` (Job) now and after each change, `end` (Job) when the job has ended."),
        },
        **problems(ProblemType.NOT_FOUND),
    },
)
@requires(Action.READ)
async def follow(
    job: str,
    notifier: NotifierDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> Response:
    found = await _job(jobs, cache, principal, job)
    return JobEventStream(jobs, notifier, found)


async def _job(jobs: JobStore, cache: CollectionCache, principal: Principal, job: str) -> Job:
    """Raises Problem NOT_FOUND, or FORBIDDEN for a job with a collection that the caller has no key for."""
    return await get_job(jobs, cache, principal, check_job_id(job))


async def _size(artifacts: Artifacts, principal: Principal, name: str) -> int | None:
    try:
        return await artifacts.size(principal.tenant, name)
    except Problem:
        return None  # it has expired


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
