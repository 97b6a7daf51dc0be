"""Who may see the rows of a Lance table: the predicate of a reader, and changes of the lists alone.

A change writes the rows of a document anew, with a later time of writing, so that whoever follows the table sees them
as new. Their vectors and texts are copied, not made again.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pyarrow as pa
from lancedb.table import AsyncTable

from services.retriever.stores.base import Permissions, Readers
from services.retriever.stores.lance.replace import ATTEMPTS, add_columns, is_conflict
from services.retriever.stores.lance.rows import ALIVE, ALLOWED, ALLOWED_REVISION, PERMISSION_FIELDS
from services.retriever.stores.lance.sql import literal

__all__ = ["for_readers", "permit_documents", "readable"]

T = TypeVar("T")


def readable(schema: pa.Schema, readers: Readers) -> str | None:
    """The predicate of the rows that a reader may see; None where these are all."""
    if readers is None or ALLOWED not in schema.names:
        return None
    if not readers:
        return f"{ALLOWED} IS NULL"
    return f"({ALLOWED} IS NULL OR array_has_any({ALLOWED}, {_listed(sorted(readers))}))"


async def for_readers(
    table: AsyncTable, readers: Readers, operation: Callable[[AsyncTable, str | None], Awaitable[T]]
) -> T:
    """The result of an operation on the rows that readers may see, whose predicate it takes."""
    seen = readable(await table.schema(), readers)
    result = await operation(table, seen)
    if seen is None and (listed := readable(await table.schema(), readers)) is not None:
        # The first list of the table came meanwhile, and the rows that were read may have it already.
        return await operation(table, listed)
    return result


async def permit_documents(table: AsyncTable, documents: Sequence[Permissions]) -> None:
    """Carry out `Store.permit`. Calls for one table do not overlap."""
    await table.checkout_latest()
    if ALLOWED not in (await table.schema()).names:
        if all(document.allowed is None for document in documents):
            return
        for attempt in range(ATTEMPTS):
            if await add_columns(table, PERMISSION_FIELDS, last=attempt == ATTEMPTS - 1):
                break
            if ALLOWED in (await table.schema()).names:
                break
    alike: defaultdict[tuple[tuple[str, ...] | None, int], list[str]] = defaultdict(list)
    for document in documents:
        allowed = None if document.allowed is None else tuple(document.allowed)
        alike[allowed, document.revision].append(document.document_id)
    for (allowed, revision), ids in sorted(alike.items(), key=lambda one: one[0][1]):
        await _update(table, ids, allowed, revision)


async def _update(table: AsyncTable, ids: Sequence[str], allowed: Sequence[str] | None, revision: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    where = (
        f"document_id IN ({', '.join(map(literal, ids))}) AND {ALIVE} "
        f"AND ({ALLOWED_REVISION} IS NULL OR {ALLOWED_REVISION} < {revision})"
    )
    changed = {
        ALLOWED: "NULL" if allowed is None else _listed(allowed),
        ALLOWED_REVISION: str(revision),
        "written_ms": f"greatest(written_ms + 1, {now_ms})",
    }
    for attempt in range(ATTEMPTS):
        try:
            await table.update(where=where, updates_sql=changed)
        except RuntimeError as error:
            if not is_conflict(error) or attempt == ATTEMPTS - 1:
                raise
            await table.checkout_latest()
        else:
            return


def _listed(principals: Sequence[str]) -> str:
    """The principals as an SQL list of strings."""
    return f"arrow_cast(make_array({', '.join(map(literal, principals))}), 'List(Utf8)')"
