"""The type of a metadata field lasts as long as a document has it."""

from collections.abc import Iterable

from lancedb.table import AsyncTable

from services.retriever.stores.base import IndexedDocument
from services.retriever.stores.columns import ColumnType
from services.retriever.stores.lance.rows import ALIVE, field_of
from services.retriever.stores.lance.sql import literal
from services.retriever.stores.schema_evolution import SchemaChange

__all__ = ["release_types"]


async def release_types(table: AsyncTable, change: SchemaChange, documents: Iterable[IndexedDocument]) -> bool:
    """Drop the columns whose type refuses documents, unless another document has a value there.

    Rows that the documents are about to replace do not count. Returns whether any column was dropped.
    """
    refused = [document for document in documents if document.id in change.refused]
    fields = {(problem.details.model_extra or {}).get("field") for problem in change.refused.values()}
    columns = [field_of(field, ColumnType.STRING).name for field in sorted(filter(None, fields))]
    unused = [column for column in columns if not await _is_used(table, column, refused)]
    if unused:
        await table.drop_columns(unused)
        await table.checkout_latest()
    return bool(unused)


async def _is_used(table: AsyncTable, column: str, refused: Iterable[IndexedDocument]) -> bool:
    if column not in (await table.schema()).names:
        return True
    replaced = "".join(f" AND NOT (document_id = {literal(one.id)} AND revision <= {one.revision})" for one in refused)
    found = (
        await table.query().where(f"{ALIVE} AND `{column}` IS NOT NULL{replaced}").select(["id"]).limit(1).to_arrow()
    )
    return bool(found.num_rows)
