"""Reads the passages of one document by a query that does not answer: its slip ends with the stage `retrieve`."""

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue
from starlette.requests import Request

from services.gateway.context import context_of
from services.gateway.http.sse import client_disconnect
from services.gateway.queries.pipelines import EMBED, RETRIEVE
from services.gateway.state import state_of
from shared.contracts.collections import Collection
from shared.contracts.documents import Document
from shared.contracts.envelope import Passage, Stop
from shared.contracts.filters import guarded

__all__ = ["MOST_PASSAGES", "read_passages"]

MOST_PASSAGES: Final = 100
"""Passages of one request: they come back in one message."""


async def read_passages(
    request: Request, collection: Collection, document: Document, *, start: int, limit: int
) -> Sequence[Passage]:
    """The passages at `start` and after it, up to `limit`, in the order of the document.

    A search by meaning ranks every passage that its filter lets through, so with the filter alone it lists them.
    Raises the Problem with which the query ended, or ClientLeftError.
    """
    state, context = state_of(request), context_of(request)
    backend = await state.backend()
    wanted: dict[str, JsonValue] = {"document_id": document.id, "position": {"$gte": start, "$lt": start + limit}}
    restricted = collection.restricted and not context.principal.sees_all
    slip = (
        Stop(stage=EMBED, variant=collection.embedding_variant, params=collection.queried.embed_params),
        Stop(
            stage=RETRIEVE,
            params={
                "mode": "vector",
                "top_k": limit,
                "fold_copies": False,
                "context": 0,
                "filter": guarded(wanted) if restricted else wanted,
            },
        ),
    )
    query = state.planner.envelope(
        context,
        slip,
        timeout=state.settings.default_timeout,
        question=document.name,
        collection=collection.table,
        collection_id=collection.id,
    )
    async with (
        client_disconnect(request.scope, request.receive) as departure,
        backend.queries.ask(query, departure, append_only=False) as session,
    ):
        while session.ended is None:
            await session.parts()
    return sorted(session.answer.sources, key=lambda passage: passage.position)
