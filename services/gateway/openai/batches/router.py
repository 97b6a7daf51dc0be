"""/v1/batches"""

import time
from typing import Annotated, Final

from fastapi import Query, Request

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import Backend, BackendParameter, ContextParameter, PrincipalParameter
from services.gateway.http.body import read_json
from services.gateway.http.openapi import body
from services.gateway.jobs.idempotency import IdempotencyKey, job_for
from services.gateway.openai.batches.service import BatchBody, BatchList, BatchRecord, NewBatch
from services.gateway.openai.errors import errors
from services.gateway.openai.paging import page_of
from shared.contracts.jobs import BatchSpec, Job, JobOptions, RetryPolicy
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType

__all__ = ["router"]

router = authenticated_router("openai")

MAX_BODY: Final = 64 * 1024

PATIENT: Final = RetryPolicy(limit=20)
"""A batch has its window to outlast what goes wrong around it."""


@router.post(
    "/v1/batches",
    summary="Create a batch",
    openapi_extra=body(json=NewBatch),
    responses=errors(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.TOO_LARGE, ProblemType.QUEUE_FULL),
)
@requires(Action.JOBS)
async def create(
    request: Request,
    context: ContextParameter,
    backend: BackendParameter,
    principal: PrincipalParameter,
    idempotency_key: IdempotencyKey = None,
) -> BatchBody:
    """Makes a job that answers every line of a file on the batch lane, in the room that interactive queries leave."""
    principal.need(Action.QUERY)
    asked = await read_json(request, NewBatch, MAX_BODY)
    job = job_for(principal, idempotency_key)
    try:
        file = await backend.files.get(principal.tenant, asked.input_file_id)
    except Problem as problem:
        raise Problem(problem.kind, problem.detail, param="input_file_id") from None
    now = time.time()
    record = await backend.batches.create(
        BatchRecord(
            job=job,
            tenant=principal.tenant,
            input_file_id=file.id,
            endpoint=asked.endpoint,
            completion_window=asked.completion_window,
            metadata=asked.metadata,
            created_at=now,
            expires_at=now + asked.seconds,
        )
    )
    spec = BatchSpec(input=file.id, endpoint=record.endpoint, concurrency=context.settings.batch_concurrency)
    options = principal.options(JobOptions(deadline=record.expires_at, retry=PATIENT))
    made, _ = await backend.jobs.submit(spec, job=job, tenant=principal.tenant, options=options)
    return BatchBody.of(record, made)


@router.get("/v1/batches", summary="List batches", responses=errors(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def list_page(
    backend: BackendParameter,
    principal: PrincipalParameter,
    after: Annotated[str, Query(description="The id of the last batch of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """The newest first."""
    page, more = page_of(await backend.batches.list(principal.tenant), after, limit, lambda record: record.id)
    data = [BatchBody.of(record, await _job(backend, record)) for record in page]
    return BatchList.of(data, [record.id for record in page], more)


@router.get("/v1/batches/{batch}", summary="Look at a batch", responses=errors(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(batch: str, backend: BackendParameter, principal: PrincipalParameter) -> BatchBody:
    record = await backend.batches.get(principal.tenant, batch)
    return BatchBody.of(record, await _job(backend, record))


@router.post(
    "/v1/batches/{batch}/cancel",
    summary="Cancel a batch",
    responses=errors(ProblemType.NOT_FOUND, ProblemType.CONFLICT),
)
@requires(Action.JOBS)
async def cancel(batch: str, backend: BackendParameter, principal: PrincipalParameter) -> BatchBody:
    """What has been answered by then can be downloaded."""
    record = await backend.batches.get(principal.tenant, batch)
    job = await _job(backend, record)
    if job is None or job.state.ended:
        status = BatchBody.of(record, job).status
        raise Problem(ProblemType.CONFLICT, f"A batch with the status '{status}' cannot be cancelled.")
    if record.cancelling_at is None:
        record = record.model_copy(update={"cancelling_at": time.time()})
        await backend.batches.put(record)
    reason = "the batch was cancelled"
    return BatchBody.of(
        record, await backend.jobs.cancel(record.tenant, record.job, by=principal.by(""), reason=reason)
    )


async def _job(backend: Backend, record: BatchRecord) -> Job | None:
    try:
        return await backend.jobs.get(record.tenant, record.job)
    except Problem as problem:
        if problem.kind is ProblemType.NOT_FOUND:
            return None
        raise
