"""/v1/collections/{collection}/documents/{document}/passages"""

from typing import Annotated

from fastapi import Query, Request

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import CollectionCacheDependency, DocumentsDependency
from services.gateway.documents.service import seen_document
from services.gateway.http.openapi import problems
from services.gateway.passages.service import MOST_PASSAGES, read_passages
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from sluice.api.passages import DocumentPassage, PassagePage

__all__ = ["router"]

router = authenticated_router("documents")


@router.get(
    "/v1/collections/{collection}/documents/{document}/passages",
    summary="Read a document's passages",
    responses=problems(
        ProblemType.COLLECTION_NOT_FOUND,
        ProblemType.NOT_FOUND,
        ProblemType.INDEX_UNAVAILABLE,
        ProblemType.QUEUE_FULL,
        ProblemType.STAGE_UNAVAILABLE,
        ProblemType.STAGE_FAILED,
        ProblemType.DEADLINE_EXCEEDED,
    ),
)
@requires(Action.READ)
async def list_page(
    collection: str,
    document: str,
    request: Request,
    cache: CollectionCacheDependency,
    documents: DocumentsDependency,
    principal: PrincipalDependency,
    start: Annotated[int, Query(ge=0, lt=2**31, description="The position of the first passage.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_PASSAGES)] = 20,
) -> PassagePage:
    """Passages of the live version in the order of the document, as queries find them."""
    record = await cache.get(principal.tenant, principal.need_collection(collection))
    found = await seen_document(documents, principal, record, document)
    passages = await read_passages(request, record, found, start=start, limit=limit)
    return PassagePage(
        document=found.name,
        chunks=found.chunks,
        passages=tuple(DocumentPassage(position=one.position, text=one.text) for one in passages),
    )
