"""Reads chunks of a Lance table by their places."""

from collections.abc import Collection

from lancedb.table import AsyncTable

from services.retriever.stores.base import Place, StoredChunk
from services.retriever.stores.lance.rows import ALIVE, SECTION, Key
from services.retriever.stores.lance.sql import literal

__all__ = ["read_chunks", "read_documents"]


async def read_chunks(table: AsyncTable, seen: str | None, places: Collection[Place]) -> dict[Place, StoredChunk]:
    """Carry out `Store.read`, by the index of the row keys. Of a key that is there twice the newest row counts.
    `seen` is the predicate of the rows that count."""
    keys = ", ".join(literal(str(Key(place.document_id, place.position))) for place in places)
    columns = ["document_id", "position", "revision", "text"]
    if has_sections := SECTION in (await table.schema()).names:
        columns.append(SECTION)
    where = f"id IN ({keys}) AND {ALIVE}" + (f" AND {seen}" if seen else "")
    rows = await table.query().where(where).select(columns).to_list()
    found: dict[Place, StoredChunk] = {}
    for row in sorted(rows, key=lambda row: int(row["revision"])):
        place = Place(row["document_id"], int(row["position"]))
        section = row[SECTION] if has_sections else None
        found[place] = StoredChunk(place=place, revision=row["revision"], text=row["text"], section=section)
    return found


async def read_documents(table: AsyncTable) -> dict[str, int]:
    """Carry out `Store.documents`."""
    found: dict[str, int] = {}
    reader = await table.query().where(ALIVE).select(["document_id", "revision"]).to_batches()
    async for batch in reader:
        for document, revision in zip(batch["document_id"].to_pylist(), batch["revision"].to_pylist(), strict=True):
            found[document] = max(revision, found.get(document, revision))
    return found
