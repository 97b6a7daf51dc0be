"""/v1/collections"""

import time
from typing import Annotated, Final

from fastapi import Query, Request, Response, status

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    CollectionCacheDependency,
    CollectionIndexDependency,
    CollectionsDependency,
    DocumentIndexDependency,
    JobsDependency,
    ModelStoreDependency,
    PipelinesDependency,
)
from services.gateway.http.body import read_json
from services.gateway.http.models import CollectionChange, CollectionList, JobBody, NewCollection
from services.gateway.http.openapi import problems, request_body
from services.gateway.jobs.idempotency import IdempotencyKey, earlier_job, job_id_for
from services.gateway.jobs.service import accepted
from shared.contracts.collections import Collection
from shared.contracts.jobs import DropSpec, JobOptions, JobState
from shared.contracts.keys import Action
from shared.contracts.models import ADAPTS, EMBEDS, RERANKS
from shared.contracts.problems import Problem, ProblemType
from shared.stores.document_index import Counts, DocumentIndex
from sluice.api import collections as api

__all__ = ["router"]

router = authenticated_router("collections")

MAX_BODY: Final = 64 * 1024


@router.post(
    "/v1/collections",
    summary="Create a collection",
    status_code=status.HTTP_201_CREATED,
    response_model=api.Collection,
    openapi_extra=request_body(json=NewCollection),
    responses={
        200: {"model": api.Collection, "description": "It exists already, with the same settings"},
        **problems(
            ProblemType.INVALID_NAME,
            ProblemType.PIPELINE_NOT_FOUND,
            ProblemType.MODEL_NOT_FOUND,
            ProblemType.CONFLICT,
            ProblemType.TOO_LARGE,
        ),
    },
)
@requires(Action.WRITE)
async def create(
    request: Request,
    response: Response,
    pipelines: PipelinesDependency,
    collection_cache: CollectionCacheDependency,
    collections: CollectionsDependency,
    documents: DocumentIndexDependency,
    models: ModelStoreDependency,
    principal: PrincipalDependency,
) -> api.Collection:
    body = await read_json(request, NewCollection, MAX_BODY)
    if body.pipeline is not None:
        pipelines.get(body.pipeline)
    name = principal.need_collection(body.name)
    await models.require(principal.tenant, body.embedding_model, *EMBEDS)
    await models.require(principal.tenant, body.rerank_model, *RERANKS)
    await models.require(principal.tenant, body.adapter, *ADAPTS)
    record, new = await collections.create(
        principal.tenant,
        name,
        description=body.description,
        pipeline=body.pipeline,
        retrieval=body.retrieval,
        embedding_model=body.embedding_model,
        rerank_model=body.rerank_model,
        adapter=body.adapter,
    )
    collection_cache.forget(principal.tenant, record.name)
    response.headers["Location"] = f"/v1/collections/{record.name}"
    if new:
        return _shown(principal, record, Counts(documents=0, chunks=0))
    response.status_code = status.HTTP_200_OK
    return await _described(documents, principal, record)


@router.get("/v1/collections", summary="List the collections", responses=problems())
@requires(Action.READ)
async def list_all(
    index: CollectionIndexDependency,
    documents: DocumentIndexDependency,
    principal: PrincipalDependency,
    after: Annotated[str, Query(description="Only collections whose names sort after this one.")] = "",
    limit: Annotated[int | None, Query(ge=1, le=1000, description="At most so many; all where it is left out.")] = None,
) -> CollectionList:
    """One page of the collections that the key may use, by name."""
    page, more = await index.page(principal.tenant, after=after, limit=limit, sees=principal.sees)
    tables = [(record.table, record.owner) for record in page]
    counts = await documents.counts_each(tables, principals=principal.reads_as)
    found = [_shown(principal, record, counted) for record, counted in zip(page, counts, strict=True)]
    return CollectionList(collections=found, next=page[-1].name if more else None)


@router.get(
    "/v1/collections/{collection}", summary="Look at a collection", responses=problems(ProblemType.COLLECTION_NOT_FOUND)
)
@requires(Action.READ)
async def get(
    collection: str,
    collections: CollectionsDependency,
    documents: DocumentIndexDependency,
    principal: PrincipalDependency,
) -> api.Collection:
    record = await collections.get(principal.tenant, principal.need_collection(collection))
    return await _described(documents, principal, record)


@router.patch(
    "/v1/collections/{collection}",
    summary="Change a collection's settings",
    openapi_extra=request_body(json=CollectionChange),
    responses=problems(
        ProblemType.COLLECTION_NOT_FOUND,
        ProblemType.PIPELINE_NOT_FOUND,
        ProblemType.MODEL_NOT_FOUND,
        ProblemType.TOO_LARGE,
    ),
)
@requires(Action.WRITE)
async def change(
    collection: str,
    request: Request,
    pipelines: PipelinesDependency,
    collection_cache: CollectionCacheDependency,
    collections: CollectionsDependency,
    documents: DocumentIndexDependency,
    models: ModelStoreDependency,
    principal: PrincipalDependency,
) -> api.Collection:
    """Takes effect for new queries, at other gateways within seconds."""
    body = await read_json(request, CollectionChange, MAX_BODY)
    if body.pipeline is not None:
        pipelines.get(body.pipeline)
    known = await collections.get(principal.tenant, principal.need_collection(collection))
    await models.require(principal.tenant, body.rerank_model or "", *RERANKS)
    await models.require(principal.tenant, body.adapter or "", *ADAPTS)
    given = {name: getattr(body, name) for name in body.model_fields_set}
    record = await collections.update(known, lambda current: current.with_settings(**given))
    collection_cache.forget(principal.tenant, collection)
    return await _described(documents, principal, record)


@router.delete(
    "/v1/collections/{collection}",
    summary="Delete a collection with all its documents",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(ProblemType.COLLECTION_NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL),
)
@requires(Action.WRITE)
async def delete(
    collection: str,
    response: Response,
    jobs: JobsDependency,
    collection_cache: CollectionCacheDependency,
    collections: CollectionsDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """The collection is gone at once; a job removes what it held."""
    principal.need_collection(collection)
    job = job_id_for(principal, idempotency_key)
    earlier = await earlier_job(jobs, principal, idempotency_key, job, kind="drop", collection=collection)
    try:
        record = await collections.get(principal.tenant, collection)
    except Problem:
        if earlier is None:
            raise
        return accepted(response, earlier)
    if earlier is not None and (earlier.state is not JobState.QUEUED or record.created_at > earlier.created_at):
        return accepted(response, earlier)
    # The job comes first: if the record went first and the job failed, nothing would remove the table.
    others = tuple(sorted({version.table for version in record.versions} - {record.table}))
    spec = DropSpec(collection=collection, table=record.table, others=others, id=record.id)
    made, _ = await jobs.submit(spec, job=job, tenant=principal.tenant, options=principal.options(JobOptions()))
    await collections.delete(principal.tenant, collection)
    collection_cache.forget(principal.tenant, collection)
    return accepted(response, made)


async def _described(documents: DocumentIndex, principal: Principal, record: Collection) -> api.Collection:
    """As the caller sees it: what they may not see counts nowhere.

    `documents` and `chunks` count what is in the index of the live version; those of the other versions what was in
    them when they were built or retired.
    """
    found = await documents.counts(record.table, owner=record.owner, principals=principal.reads_as)
    return _shown(principal, record, found)


def _shown(principal: Principal, record: Collection, found: Counts) -> api.Collection:
    if record.restricted and not principal.sees_all:
        for version in record.versions:
            record = record.changed(version.name, documents=0, chunks=0)
    counted = record.changed(record.live.name, documents=found.documents, chunks=found.chunks)
    return api.Collection(
        name=record.name,
        description=record.description,
        pipeline=record.pipeline,
        documents=found.documents,
        chunks=found.chunks,
        created_at=record.created_at,
        version=record.live.name,
        canary=_canary(record),
        versions=tuple(api.CollectionVersion.model_validate(version) for version in counted.versions),
    )


def _canary(record: Collection) -> api.VersionCanary | None:
    canary = record.canary
    if canary is None or time.time() >= canary.until:
        return None
    return api.VersionCanary(version=canary.version, percent=canary.percent, shadow=canary.shadow, job=canary.job)
