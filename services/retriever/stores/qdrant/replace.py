"""Carries out `Store.replace` and `Store.permit`, each in one commit."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from qdrant_client import models

from services.retriever.stores.base import IndexedDocument, Permissions, Replaced
from services.retriever.stores.columns import Column, ColumnType
from services.retriever.stores.documents import check_dimension, latest_of
from services.retriever.stores.qdrant.commit import Commit, Stored
from services.retriever.stores.qdrant.layout import DOCUMENT_ID, REVISION, column
from services.retriever.stores.qdrant.points import document_point, passage_points
from services.retriever.stores.qdrant.state import TableState
from services.retriever.stores.qdrant.view import equals
from services.retriever.stores.schema_evolution import SchemaChange, plan_columns

__all__ = ["permit_documents", "replace_documents"]


async def replace_documents(commit: Commit, documents: Sequence[IndexedDocument]) -> Replaced:
    """Raises Problem(CONFLICT) where a vector does not fit the table, before anything is written."""
    state = commit.turn.state
    for document in documents:
        for chunk in document.chunks:
            check_dimension(len(chunk.vector), state.dimension)
    fields, change = await _plan_fields(commit, latest_of(documents))
    stored = await commit.stored([document.id for document in change.accepted])
    late = [one for one in change.accepted if one.revision < stored.get(one.id, Stored()).revision]
    superseded = {document.id for document in late}
    current = [_permitting(one, stored.get(one.id)) for one in change.accepted if one.id not in superseded]
    # A list that a document brings counts by its own revision, also where the rest of it comes too late.
    lists = [
        Permissions(document_id=one.id, allowed=one.allowed, revision=one.allowed_revision)
        for one in late
        if one.allowed_revision >= 0
    ]
    if current or lists:
        if added := {key: kind for key, kind in fields.items() if state.fields.get(key) is not kind}:
            columns = {key: column(key, kind) for key, kind in added.items()}
            await commit.layout.index_fields(state.dimension, columns)
        await _write(commit, current)
        await commit.permit(lists, stored)
        await commit.finish(lambda newest: newest.model_copy(update={"fields": fields}))
    return Replaced(
        replaced=frozenset(document.id for document in current),
        superseded=frozenset(superseded),
        refused=change.refused,
    )


async def permit_documents(commit: Commit, lists: Sequence[Permissions]) -> None:
    stored = await commit.stored(list({one.document_id for one in lists}))
    later = [
        one
        for one in lists
        if (known := stored.get(one.document_id)) and known.chunks and known.allowed_revision < one.revision
    ]
    if later:
        await commit.permit(later, stored)
        await commit.finish()


async def _write(commit: Commit, documents: Sequence[IndexedDocument]) -> None:
    now_ms = time.time_ns() // 1_000_000
    heads = [document_point(document, commit.table, commit.number, now_ms=now_ms) for document in documents]
    # The analysis of texts takes milliseconds a passage.
    passages = await asyncio.to_thread(lambda: list(_passages(commit, documents)))
    await commit.write(commit.passages, passages)
    await commit.write(commit.layout.documents, heads)
    await commit.end([document.id for document in documents])


def _passages(commit: Commit, documents: Iterable[IndexedDocument]) -> Iterable[models.PointStruct]:
    for document in documents:
        yield from passage_points(document, commit.table, commit.number)


def _permitting(document: IndexedDocument, stored: Stored | None) -> IndexedDocument:
    """The document with the list that is stored, where that is the later one."""
    if stored is None or not stored.chunks or stored.allowed_revision <= document.allowed_revision:
        return document
    return replace(document, allowed=stored.allowed, allowed_revision=stored.allowed_revision)


async def _plan_fields(
    commit: Commit, documents: Sequence[IndexedDocument]
) -> tuple[dict[str, ColumnType], SchemaChange]:
    """The types of the table's metadata fields once the documents are there. A field that no other document has takes
    the type of these ones."""
    state = commit.turn.state
    change = plan_columns(documents, state.columns)
    kept = state.fields
    if change.refused:
        refused = [document for document in documents if document.id in change.refused]
        named = {str((one.details.model_extra or {}).get("field")) for one in change.refused.values()}
        unused = {field for field in named & kept.keys() if not await _is_used(commit, field, refused)}
        if unused:
            kept = {field: kind for field, kind in kept.items() if field not in unused}
            change = plan_columns(documents, _columns(state, kept))
    return {**kept, **change.missing}, change


def _columns(state: TableState, fields: Mapping[str, ColumnType]) -> Mapping[str, Column]:
    return state.model_copy(update={"fields": dict(fields)}).columns


async def _is_used(commit: Commit, field: str, replaced: Iterable[IndexedDocument]) -> bool:
    """Whether a document other than those that are about to be replaced has the field."""
    name = column(field, commit.turn.state.fields[field]).name
    empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=name))
    others: list[models.Condition] = [
        models.Filter(
            must=[
                equals(DOCUMENT_ID, one.id),
                models.FieldCondition(key=REVISION, range=models.Range(lte=one.revision)),
            ]
        )
        for one in replaced
    ]
    where = commit.view.filter(models.Filter(must_not=[empty, *others]))
    found, _ = await commit.connection.call(
        lambda client: client.scroll(
            commit.passages, scroll_filter=where, limit=1, with_payload=False, with_vectors=False
        )
    )
    return bool(found)
