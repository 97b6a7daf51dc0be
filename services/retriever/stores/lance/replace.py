"""Replaces documents in a Lance table, in one commit.

One merge by row key writes the new chunks and turns the keys that are left over into tombstones. A merge that deleted
the left-over rows itself would read the whole table; this one costs the same at any size of the table.

Between processes, Lance repeats a merge that lost a race for a row, and the merge's own condition then keeps the
greater revision. What that condition cannot see are rows that only the other side wrote: a process that finds a
foreign commit between its reading and its writing looks again and buries what is left of the smaller revision. Nor
does Lance always see that two merges have inserted the same key, as when one process stood still for a while and its
work was given to another: whoever finds such a key twice leaves its newest row.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from lancedb.table import AsyncTable

from services.retriever.stores.base import IndexedDocument, Replaced
from services.retriever.stores.documents import latest_of
from services.retriever.stores.lance.column_types import release_types
from services.retriever.stores.lance.rows import (
    ALLOWED,
    ALLOWED_REVISION,
    PERMISSION_FIELDS,
    SECTION,
    SECTION_FIELD,
    Key,
    columns_of,
    field_of,
    head_key,
    keys_of,
    rows_of,
)
from services.retriever.stores.lance.sql import literal
from services.retriever.stores.schema_evolution import SchemaChange, plan_columns

__all__ = ["ATTEMPTS", "Stored", "add_columns", "is_conflict", "read_stored", "replace_documents"]

ATTEMPTS = 5


@dataclass(slots=True)
class Stored:
    """What the table holds of a document: its greatest revision, and the revision of each row that is alive.

    `written` is the newest row of each key: its revision and when it was written. Rows of `doubled` keys are older.
    `allowed` is the list of its rows, as the revision `allowed_revision` has it.
    """

    revision: int = -1
    allowed: Sequence[str] | None = None
    allowed_revision: int = -1
    alive: dict[Key, int] = field(default_factory=dict)
    written: dict[str, tuple[int, int]] = field(default_factory=dict)
    doubled: set[str] = field(default_factory=set)

    def outdated(self) -> dict[Key, int]:
        """Rows of smaller revisions, each with the revision that outdates it."""
        return {key: self.revision for key, revision in self.alive.items() if revision < self.revision}

    def permitting(self, document: IndexedDocument) -> IndexedDocument:
        """The document with the list that is stored, where that is the later one."""
        if self.allowed_revision <= document.allowed_revision:
            return document
        return replace(document, allowed=self.allowed, allowed_revision=self.allowed_revision)


_Reader = Callable[[AsyncTable, Sequence[str]], Awaitable[dict[str, Stored]]]


async def replace_documents(
    table: AsyncTable, documents: Sequence[IndexedDocument], *, read: _Reader | None = None
) -> Replaced:
    """Carry out `Store.replace`; the vectors' dimension is the table's. Calls for one table do not overlap.

    `read` reads what the table holds of the documents before the merge.
    """
    change = await _evolve_schema(table, latest_of(documents))
    ids = [document.id for document in change.accepted]
    await table.checkout_latest()
    version = await table.version()
    stored = await (read or read_stored)(table, ids)
    if await _leave_newest(table, stored):
        version, stored = await table.version(), await read_stored(table, ids)
    current = [stored[d.id].permitting(d) for d in change.accepted if d.revision >= stored[d.id].revision]
    committed = await _merge(table, current, _gone(current, stored))
    if committed is not None and committed > version + 1:
        stored = await _settle(table, ids)
    superseded = {d.id for d in change.accepted if stored[d.id].revision > d.revision}
    return Replaced(replaced=frozenset(ids) - superseded, superseded=frozenset(superseded), refused=change.refused)


def is_conflict(error: Exception) -> bool:
    """Whether Lance says that another commit came first."""
    return "conflict" in str(error).lower()


async def _evolve_schema(table: AsyncTable, documents: Sequence[IndexedDocument]) -> SchemaChange:
    """Add the columns that the documents need, also while another process adds the same ones. A column that no other
    document has a value in takes the type of these ones."""
    for attempt in range(ATTEMPTS):
        schema = await table.schema()
        change = plan_columns(documents, columns_of(schema))
        if change.refused and await release_types(table, change, documents):
            schema = await table.schema()
            change = plan_columns(documents, columns_of(schema))
        missing = [field_of(key, kind) for key, kind in change.missing.items()]
        if SECTION not in schema.names:
            missing.append(SECTION_FIELD)
        if ALLOWED not in schema.names and any(document.allowed is not None for document in documents):
            missing += PERMISSION_FIELDS
        if not missing or await add_columns(table, missing, last=attempt == ATTEMPTS - 1):
            return change
    return plan_columns(documents, columns_of(await table.schema()))


async def add_columns(table: AsyncTable, fields: list[pa.Field], *, last: bool) -> bool:
    """Add columns. False where another process has changed the table first; the `last` attempt raises then."""
    try:
        await table.add_columns(fields)
    except (ValueError, RuntimeError) as error:
        lost_race = is_conflict(error) or "already exists" in str(error)
        if not lost_race or last:
            raise
        await table.checkout_latest()
        return False
    return True


async def read_stored(table: AsyncTable, ids: Sequence[str]) -> dict[str, Stored]:
    stored = {document_id: Stored() for document_id in ids}
    if not ids:
        return stored
    predicate = f"document_id IN ({', '.join(map(literal, ids))})"
    columns = ["id", "document_id", "position", "revision", "written_ms"]
    columns += [name for name in (ALLOWED, ALLOWED_REVISION) if name in (await table.schema()).names]
    rows = await table.query().where(predicate).select(columns).to_arrow()
    for row in rows.to_pylist():
        document = stored[row["document_id"]]
        document.revision = max(document.revision, row["revision"])
        written, known = (row["revision"], row["written_ms"]), document.written.get(row["id"])
        if known not in (None, written):
            document.doubled.add(row["id"])
        document.written[row["id"]] = max(written, known or written)
        if row["position"] is not None:
            document.alive[Key(row["document_id"], int(row["position"]))] = row["revision"]
            if (row.get(ALLOWED_REVISION) or -1) > document.allowed_revision:
                document.allowed, document.allowed_revision = row[ALLOWED], row[ALLOWED_REVISION]
    return stored


def _gone(current: Sequence[IndexedDocument], stored: Mapping[str, Stored]) -> dict[Key, int]:
    """The keys to bury, each with the revision that does."""
    gone: dict[Key, int] = {}
    for document in current:
        leftover = stored[document.id].alive.keys() - set(keys_of(document))
        gone |= dict.fromkeys(leftover, document.revision)
        if not document.chunks:
            gone[head_key(document.id)] = document.revision
    replaced = {document.id for document in current}
    for document_id, rows in stored.items():
        if document_id not in replaced:
            gone |= rows.outdated()
    return gone


async def _settle(table: AsyncTable, ids: Sequence[str]) -> dict[str, Stored]:
    """Bury what is left of smaller revisions after a race; what is then stored."""
    for _ in range(ATTEMPTS):
        await table.checkout_latest()
        stored = await read_stored(table, ids)
        if await _leave_newest(table, stored):
            continue
        gone = {key: revision for rows in stored.values() for key, revision in rows.outdated().items()}
        if not gone:
            break
        await _merge(table, [], gone)
    return stored


async def _leave_newest(table: AsyncTable, stored: Mapping[str, Stored]) -> bool:
    """Delete the older rows of keys that are there more than once. Returns whether there were any.

    Any number of processes may do it at once: all leave the same row.
    """
    older = [
        f"(id = {literal(key)} AND (revision < {revision} OR (revision = {revision} AND written_ms < {written_ms})))"
        for document in stored.values()
        for key, (revision, written_ms) in document.written.items()
        if key in document.doubled
    ]
    if not older:
        return False
    await table.delete(" OR ".join(older))
    await table.checkout_latest()
    return True


async def _merge(table: AsyncTable, documents: Sequence[IndexedDocument], gone: Mapping[Key, int]) -> int | None:
    """Commit; the version of the table that results, None where there was nothing to write."""
    if not gone and not any(document.chunks for document in documents):
        return None
    rows = rows_of(documents, gone, await table.schema(), now_ms=time.time_ns() // 1_000_000)
    merge = (
        table.merge_insert("id")
        .when_matched_update_all(where="target.revision <= source.revision")
        .when_not_matched_insert_all()
    )
    # Tombstones have no vector; without "null" LanceDB refuses them.
    result = await merge.execute(rows, on_bad_vectors="null")
    return int(result.version)
