"""/v1/collections/{collection}/documents"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Query, Request, Response, status

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    CollectionsDependency,
    DocumentIndexDependency,
    DocumentsDependency,
    JobsDependency,
    SettingsDependency,
    UploadObjectsDependency,
)
from services.gateway.documents.service import checked_id, seen_document
from services.gateway.documents.uploads import Upload
from services.gateway.http.body import media_type, read_bounded, read_json, refuse_other_sites
from services.gateway.http.models import JobBody, Permissions, TextDocuments, UploadForm
from services.gateway.http.object_writer import ObjectBatch
from services.gateway.http.openapi import problems, request_body
from services.gateway.jobs.idempotency import IdempotencyKey, earlier_job, job_id_for
from services.gateway.jobs.service import accepted
from services.gateway.settings import GatewaySettings
from shared.contracts.documents import document_id
from shared.contracts.jobs import DeleteSpec, DocumentRef, IngestSpec, JobOptions, JobState, PermitSpec, Priority
from shared.contracts.keys import Action
from shared.contracts.principals import check_allowed, normalized
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.jobs.store import JobStore
from sluice.api.documents import Document, DocumentPage

__all__ = ["router"]

router = authenticated_router("documents")

FORM = "multipart/form-data"
MAX_DELETED = 1000
MAX_PERMISSIONS_BYTES = 64 * 1024


@router.post(
    "/v1/collections/{collection}/documents",
    summary="Add documents",
    dependencies=[Depends(refuse_other_sites)],
    status_code=status.HTTP_202_ACCEPTED,
    openapi_extra=request_body(json=TextDocuments, multipart=UploadForm),
    responses=problems(
        ProblemType.COLLECTION_NOT_FOUND,
        ProblemType.INVALID_NAME,
        ProblemType.INVALID_METADATA,
        ProblemType.TOO_LARGE,
        ProblemType.CONFLICT,
        ProblemType.QUEUE_FULL,
    ),
)
@requires(Action.WRITE)
async def add(
    collection: str,
    request: Request,
    response: Response,
    settings: SettingsDependency,
    jobs: JobsDependency,
    collections: CollectionsDependency,
    upload_objects: UploadObjectsDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """Stores the documents and makes a job that reads and indexes them. A document replaces one of the same name."""
    job = job_id_for(principal, idempotency_key)
    await collections.get(principal.tenant, principal.need_collection(collection))
    earlier = await earlier_job(jobs, principal, idempotency_key, job, kind="ingest", collection=collection)
    if earlier is not None and earlier.state is not JobState.QUEUED:
        async for _ in read_bounded(request, settings.max_body_bytes):
            pass
        return accepted(response, earlier)
    async with upload_objects.batch() as batch:
        documents = await _receive(request, batch, settings, principal.tenant)
        await batch.commit()
    spec = IngestSpec(
        collection=collection,
        documents=tuple(one for one in documents if not _is_restricting(one)),
        restricted=tuple(one for one in documents if _is_restricting(one)),
    )
    try:
        made, new = await jobs.submit(spec, job=job, tenant=principal.tenant, options=principal.options(JobOptions()))
    except Problem as problem:
        # After other failures the job may be on the queue, and must find its documents. If it is not, they expire.
        if problem.kind is ProblemType.QUEUE_FULL:
            await batch.discard()
        raise
    if not new and await jobs.specs.get(principal.tenant, job) != spec:
        # A request with the same key was faster, and its documents are in use.
        await batch.discard()
    return accepted(response, made)


@router.get(
    "/v1/collections/{collection}/documents",
    summary="List documents",
    responses=problems(ProblemType.COLLECTION_NOT_FOUND),
)
@requires(Action.READ)
async def list_page(
    collection: str,
    collections: CollectionsDependency,
    documents: DocumentsDependency,
    index: DocumentIndexDependency,
    principal: PrincipalDependency,
    prefix: Annotated[str, Query(description="Only documents whose names begin so.")] = "",
    text: Annotated[str, Query(description="Only documents whose names have this in them, in any case.")] = "",
    warned: Annotated[bool, Query(description="Only documents with warnings.")] = False,
    after: Annotated[str, Query(description="Only documents whose names sort after this one.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DocumentPage:
    """One page of the documents that are in the index, by name."""
    record = await collections.get(principal.tenant, principal.need_collection(collection))
    page, next_after = await index.page(
        record.table,
        owner=record.owner,
        principals=principal.reads_as,
        prefix=prefix,
        text=text,
        warned=warned,
        after=after,
        limit=limit,
    )
    found = await documents.get_each(record.table, page, owner=record.owner)
    seen = filter(principal.sees_document, found)
    return DocumentPage(documents=tuple(map(Document.model_validate, seen)), next=next_after)


@router.get(
    "/v1/collections/{collection}/documents/{document}",
    summary="Look at a document",
    responses=problems(ProblemType.COLLECTION_NOT_FOUND, ProblemType.NOT_FOUND),
)
@requires(Action.READ)
async def get(
    collection: str,
    document: str,
    collections: CollectionsDependency,
    documents: DocumentsDependency,
    principal: PrincipalDependency,
) -> Document:
    record = await collections.get(principal.tenant, principal.need_collection(collection))
    return Document.model_validate(await seen_document(documents, principal, record, document))


@router.put(
    "/v1/collections/{collection}/documents/{document}/permissions",
    summary="Say who may see a document",
    status_code=status.HTTP_202_ACCEPTED,
    openapi_extra=request_body(json=Permissions),
    responses=problems(
        ProblemType.COLLECTION_NOT_FOUND,
        ProblemType.NOT_FOUND,
        ProblemType.CONFLICT,
        ProblemType.TOO_LARGE,
        ProblemType.QUEUE_FULL,
    ),
)
@requires(Action.WRITE)
async def permit(
    collection: str,
    document: str,
    request: Request,
    response: Response,
    collections: CollectionsDependency,
    documents: DocumentsDependency,
    jobs: JobsDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """Makes a job that changes the list and nothing else; in force at every retriever a second after it has ended."""
    job = job_id_for(principal, idempotency_key)
    body = await read_json(request, Permissions, MAX_PERMISSIONS_BYTES)
    record = await collections.get(principal.tenant, principal.need_collection(collection))
    found = await seen_document(documents, principal, record, document)
    spec = PermitSpec(collection=collection, documents=(found.id,), allowed=check_allowed(body.allowed))
    options = principal.options(JobOptions(priority=Priority.HIGH))
    made, _ = await jobs.submit(spec, job=job, tenant=principal.tenant, options=options)
    return accepted(response, made)


@router.delete(
    "/v1/collections/{collection}/documents",
    summary="Delete documents by name",
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        400: {"description": "The URL has more than 64 kB", "content": {"text/plain": {}}},
        **problems(ProblemType.COLLECTION_NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL),
    },
)
@requires(Action.WRITE)
async def delete_named(
    collection: str,
    response: Response,
    collections: CollectionsDependency,
    documents: DocumentsDependency,
    jobs: JobsDependency,
    principal: PrincipalDependency,
    name: Annotated[list[str], Query(min_length=1, max_length=MAX_DELETED, description="May be repeated.")],
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """A name that no document has is not an error."""
    ids = dict.fromkeys(document_id(one.replace("\\", "/")) for one in name)
    return await _delete(collections, documents, jobs, principal, response, collection, tuple(ids), idempotency_key)


@router.delete(
    "/v1/collections/{collection}/documents/{document}",
    summary="Delete a document",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(
        ProblemType.COLLECTION_NOT_FOUND, ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL
    ),
)
@requires(Action.WRITE)
async def delete(
    collection: str,
    document: str,
    response: Response,
    collections: CollectionsDependency,
    documents: DocumentsDependency,
    jobs: JobsDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """A document that does not exist is not an error."""
    return await _delete(
        collections, documents, jobs, principal, response, collection, (checked_id(document),), idempotency_key
    )


async def _receive(
    request: Request, batch: ObjectBatch, settings: GatewaySettings, tenant: str
) -> tuple[DocumentRef, ...]:
    upload = Upload(batch, settings, tenant)
    if media_type(request) == FORM:
        stream: AsyncIterator[bytes] = read_bounded(request, settings.max_body_bytes)
        return await upload.read_form(stream, request.headers["content-type"])
    if media_type(request) == "application/json":
        return await upload.store_texts(await read_json(request, TextDocuments, settings.max_texts_bytes))
    raise Problem(ProblemType.INVALID_REQUEST, f"Send files as '{FORM}', or texts as 'application/json'.")


async def _delete(
    collections: Collections,
    records: Documents,
    jobs: JobStore,
    principal: Principal,
    response: Response,
    collection: str,
    documents: tuple[str, ...],
    key: str | None,
) -> JobBody:
    job = job_id_for(principal, key)
    known = await collections.get(principal.tenant, principal.need_collection(collection))
    if known.restricted and not principal.sees_all:
        found = [await records.get(known.table, document, owner=known.owner) for document in documents]
        documents = tuple(record.id for record in found if record is not None and principal.sees_document(record))
    spec = DeleteSpec(collection=collection, documents=documents)
    options = principal.options(JobOptions())
    made, _ = await jobs.submit(spec, job=job, tenant=principal.tenant, options=options)
    return accepted(response, made)


def _is_restricting(ref: DocumentRef) -> bool:
    """Whether an upload comes with a list of principals, so that not everybody may see it."""
    return ref.allowed is not None and normalized(ref.allowed) is not None
