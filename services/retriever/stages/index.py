"""The stage `index`: writes documents, removes documents, drops tables, says what they hold."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from services.retriever.stages.owner import owner_of
from services.retriever.stores.base import Chunk, IndexedDocument, Permissions, Store
from shared.contracts.envelope import Passage, Query
from shared.contracts.indexing import (
    DocumentPermissions,
    IndexChange,
    IndexedDocumentRef,
    decode_passages,
    summary_of,
)
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import IndexOutcome
from shared.nats.objects import check_owner, read_object
from shared.runtime.stage import Context

__all__ = ["Index"]


NO_SPACE: Final = "no space left on device"
"""What the system says, whichever error of Lance it stands in."""


class Index:
    """Carries out changes of the index. `changed` hears of each table that was written to, and of how many passages."""

    def __init__(self, store: Store, vectors: ObjectStore, changed: Callable[[str, int], None]) -> None:
        self._store = store
        self._vectors = vectors
        self._changed = changed

    async def __call__(self, query: Query, context: Context) -> Query:
        """Raises Problem, among others STORAGE_FULL where the disk of the index is full."""
        try:
            return await self._carry_out(query, context)
        except (OSError, RuntimeError, ValueError) as error:
            if NO_SPACE not in str(error).lower():
                raise
            detail = "The disk of the index is full. Make room there; the job is tried again."
            raise Problem(ProblemType.STORAGE_FULL, detail) from error

    async def _carry_out(self, query: Query, context: Context) -> Query:
        change = IndexChange.model_validate(context.params)
        owner = owner_of(query)
        if change.drop:
            await self._store.drop(change.table, owner=owner)
            return query
        if change.inspect:
            revisions = await self._store.documents(change.table, owner=owner)
            return query.with_result("index", IndexOutcome(summary=await asyncio.to_thread(summary_of, revisions)))
        passages: defaultdict[str, list[Passage]] = defaultdict(list)
        for passage in await self._load(query.tenant, change.object):
            passages[passage.document_id].append(passage)
        documents = [_document(ref, passages[ref.id]) for ref in (*change.documents, *change.restricted)]
        done = await self._store.replace(change.table, documents, owner=owner, dimension=change.dimension)
        lists = [_permissions(one) for one in change.permissions]
        await self._store.permit(change.table, lists, owner=owner)
        if not done.absent:
            self._changed(change.table, sum(len(document.chunks) for document in documents))
        outcome = IndexOutcome(
            superseded=tuple(done.superseded),
            listed=(*(ref.id for ref in change.restricted), *(one.id for one in change.permissions)),
            refused={document: problem.details for document, problem in done.refused.items()},
            absent=done.absent,
        )
        return query.with_result("index", outcome)

    async def _load(self, tenant: str, name: str | None) -> tuple[Passage, ...]:
        if name is None:
            return ()
        try:
            stored = await read_object(self._vectors, check_owner(tenant, name))
        except ObjectNotFoundError:
            raise Problem(ProblemType.NOT_FOUND, "The vectors to index are gone. Ingest the documents again.") from None
        return await asyncio.to_thread(decode_passages, stored)


def _document(ref: IndexedDocumentRef, passages: Sequence[Passage]) -> IndexedDocument:
    return IndexedDocument(
        id=ref.id,
        name=ref.name,
        version=ref.version,
        revision=ref.revision,
        chunks=[_chunk(passage) for passage in passages],
        allowed=ref.allowed,
        allowed_revision=ref.allowed_revision,
    )


def _permissions(given: DocumentPermissions) -> Permissions:
    return Permissions(document_id=given.id, allowed=given.allowed, revision=given.revision)


def _chunk(passage: Passage) -> Chunk:
    return Chunk(
        position=passage.position,
        text=passage.text,
        vector=np.frombuffer(passage.vector or b"", dtype="<f4"),
        metadata=passage.metadata,
        section=passage.section,
    )
