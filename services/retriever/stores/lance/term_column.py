"""Fills the column of terms where a version before it, or one beside it, has written rows without."""

import asyncio
from typing import Final

import pyarrow as pa
from lancedb.table import AsyncTable

from services.retriever.stores.documents import analyze
from services.retriever.stores.lance.rows import TERMS

__all__ = ["fill_terms"]

ROWS: Final = 2_000
"""Rows that are filled in one commit."""

_EMPTY: Final = f"position IS NOT NULL AND {TERMS} IS NULL"


async def fill_terms(table: AsyncTable) -> None:
    """Add the column where it is missing, and fill its empty rows. May be repeated and broken off."""
    if TERMS not in (await table.schema()).names:
        await table.add_columns([pa.field(TERMS, pa.string())])
    while await table.count_rows(_EMPTY):
        columns = ["id", "document_id", "position", "revision", "text"]
        rows = await table.query().where(_EMPTY).select(columns).limit(ROWS).to_arrow()
        texts: list[str] = rows["text"].to_pylist()
        terms = await asyncio.to_thread(lambda given: [analyze(text) for text in given], texts)
        filled = rows.select(["id", "revision"]).append_column(TERMS, pa.array(terms, pa.string()))
        # A row that was replaced meanwhile has another revision and its own terms.
        merge = table.merge_insert("id").when_matched_update_all(where="target.revision = source.revision")
        await merge.execute(filled)
        await table.checkout_latest()
