"""/v1/batches"""

import time
from typing import Annotated, Final

from fastapi import Query, Request

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    BatchesDependency,
    CollectionCacheDependency,
    FilesDependency,
    JobsDependency,
    SettingsDependency,
)
from services.gateway.http.body import read_json
from services.gateway.http.openapi import request_body
from services.gateway.jobs.idempotency import IdempotencyKey, job_id_for
from services.gateway.jobs.visibility import visible_jobs
from services.gateway.openai.batches.service import BatchBody, BatchList, BatchRecord, NewBatch, missing_batch
from services.gateway.openai.errors import errors
from services.gateway.openai.files.visibility import get_file
from services.gateway.openai.paging import paginate
from shared.contracts.jobs import BatchSpec, Job, JobOptions, RetryPolicy
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from shared.stores.jobs.store import JobStore

__all__ = ["router"]

router = authenticated_router("openai")

MAX_BODY: Final = 64 * 1024

PATIENT: Final = RetryPolicy(limit=20)
"""A batch has its window to outlast what goes wrong around it."""


@router.post(
    "/v1/batches",
    summary="Create a batch",
    openapi_extra=request_body(json=NewBatch),
    responses=errors(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.TOO_LARGE, ProblemType.QUEUE_FULL),
)
@requires(Action.JOBS)
async def create(
    request: Request,
    settings: SettingsDependency,
    batches: BatchesDependency,
    jobs: JobsDependency,
    files: FilesDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> BatchBody:
    """Makes a job that answers every line of a file on the batch lane, in the room that interactive queries leave."""
    principal.need(Action.QUERY)
    body = await read_json(request, NewBatch, MAX_BODY)
    job = job_id_for(principal, idempotency_key)
    try:
        file = await get_file(files, jobs, cache, principal, body.input_file_id)
    except Problem as problem:
        raise Problem(problem.kind, problem.detail, param="input_file_id") from None
    now = time.time()
    record = await batches.create(
        BatchRecord(
            job=job,
            tenant=principal.tenant,
            input_file_id=file.id,
            endpoint=body.endpoint,
            completion_window=body.completion_window,
            metadata=body.metadata,
            created_at=now,
            expires_at=now + body.seconds,
        )
    )
    spec = BatchSpec(input=file.id, endpoint=record.endpoint, concurrency=settings.batch_concurrency)
    options = principal.options(JobOptions(deadline=record.expires_at, retry=PATIENT))
    made, _ = await jobs.submit(spec, job=job, tenant=principal.tenant, options=options)
    return BatchBody.of(record, made)


@router.get("/v1/batches", summary="List batches", responses=errors(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def list_page(
    batches: BatchesDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
    after: Annotated[str, Query(description="The id of the last batch of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """The newest first."""
    found = await batches.list(principal.tenant)
    if not principal.sees_all:
        visible = await visible_jobs(cache, principal)
        made = [(record, await _job(jobs, record)) for record in found]
        found = [record for record, job in made if job is None or visible(job)]
    page, more = paginate(found, after, limit, lambda record: record.id)
    data = [BatchBody.of(record, await _job(jobs, record)) for record in page]
    return BatchList.of(data, [record.id for record in page], more)


@router.get("/v1/batches/{batch}", summary="Look at a batch", responses=errors(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(
    batch: str,
    batches: BatchesDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> BatchBody:
    record = await batches.get(principal.tenant, batch)
    return BatchBody.of(record, await _visible_job(jobs, cache, principal, record))


@router.post(
    "/v1/batches/{batch}/cancel",
    summary="Cancel a batch",
    responses=errors(ProblemType.NOT_FOUND, ProblemType.CONFLICT),
)
@requires(Action.JOBS)
async def cancel(
    batch: str,
    batches: BatchesDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> BatchBody:
    """What has been answered by then can be downloaded."""
    record = await batches.get(principal.tenant, batch)
    job = await _visible_job(jobs, cache, principal, record)
    if job is None or job.state.ended:
        status = BatchBody.of(record, job).status
        raise Problem(ProblemType.CONFLICT, f"A batch with the status '{status}' cannot be cancelled.")
    if record.cancelling_at is None:
        record = record.model_copy(update={"cancelling_at": time.time()})
        await batches.put(record)
    reason = "the batch was cancelled"
    return BatchBody.of(record, await jobs.cancel(record.tenant, record.job, by=principal.by(""), reason=reason))


async def _visible_job(jobs: JobStore, cache: CollectionCache, principal: Principal, record: BatchRecord) -> Job | None:
    """Raises Problem NOT_FOUND for a batch that is not there for the caller."""
    job = await _job(jobs, record)
    if job is not None and not (await visible_jobs(cache, principal))(job):
        raise missing_batch(record.id)
    return job


async def _job(jobs: JobStore, record: BatchRecord) -> Job | None:
    try:
        return await jobs.get(record.tenant, record.job)
    except Problem as problem:
        if problem.kind is ProblemType.NOT_FOUND:
            return None
        raise
