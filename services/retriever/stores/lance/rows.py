"""How documents lie in a Lance table: the schema, documents to rows, rows to hits.

One row a chunk, keyed by document and position. A row whose position is null is a tombstone: it takes the place
of a chunk that is gone, holds neither text nor vector, so no search finds it, and keeps the revision that removed it.
Each metadata key is a typed nullable column `m_<key>` for filters; the JSON column gives the metadata back exactly.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from services.retriever.stores.base import IndexedDocument, Vector
from services.retriever.stores.columns import Column, ColumnType
from services.retriever.stores.documents import analyze, as_unicode, passage_terms
from shared.contracts.collections import Owner
from shared.contracts.problems import Problem, ProblemType

__all__ = [
    "ALIVE",
    "ALLOWED",
    "ALLOWED_REVISION",
    "PERMISSION_FIELDS",
    "Key",
    "Row",
    "SECTION",
    "TERMS",
    "SECTION_FIELD",
    "base_schema",
    "check_owner",
    "columns_of",
    "dimension_of",
    "field_of",
    "head_key",
    "keys_of",
    "rows_of",
    "table_id",
    "terms_of",
    "without_outdated",
]

Row: TypeAlias = Mapping[str, Any]
"""A row of a query's result, by column."""

ALIVE = "position IS NOT NULL"
"""The predicate that leaves out tombstones."""

TERMS = "terms"
"""The column of a passage's terms, with a space between them: what is searched by words. A table made by a version
before it has none until `maintain` has filled it."""

SECTION = "section_number"
"""The column of the number of a passage's section. A table made by a version before it has none until a document is
written to it; rows of that version have null."""

SECTION_FIELD = pa.field(SECTION, pa.int64())

ALLOWED, ALLOWED_REVISION = "allowed", "allowed_revision"
"""The columns of the principals that may see a passage, null for everybody, and of the revision of that list. A table
has them from the first list on."""

PERMISSION_FIELDS = [pa.field(ALLOWED, pa.list_(pa.string())), pa.field(ALLOWED_REVISION, pa.int64())]

_TENANT, _COLLECTION, _TABLE_ID = b"sluice.tenant", b"sluice.collection", b"sluice.table"
"""Metadata of a table: whose it is. One that a version before it made has none."""

_PREFIX = "m_"
_ARROW = {ColumnType.STRING: pa.string(), ColumnType.NUMBER: pa.float64(), ColumnType.BOOLEAN: pa.bool_()}
_RESERVED = {
    "document": Column("document", ColumnType.STRING),
    "document_id": Column("document_id", ColumnType.STRING),
    "position": Column("position", ColumnType.NUMBER),
}
# Declares the key to Lance at creation; with it, concurrent inserts of one key conflict instead of doubling the row.
_PRIMARY_KEY = {"lance-schema:unenforced-primary-key:position": "1"}


@dataclass(frozen=True, slots=True)
class Key:
    """The place of a row: a chunk's document and position."""

    document_id: str
    position: int

    def __str__(self) -> str:
        return f"{self.document_id}:{self.position}"


def head_key(document_id: str) -> Key:
    """The row that keeps the revision of a deleted document."""
    return Key(document_id, 0)


def base_schema(dimension: int, owner: Owner | None = None) -> pa.Schema:
    """The columns that every collection has, and whose it is."""
    marks = {_TABLE_ID: uuid.uuid4().hex}
    if owner is not None:
        marks |= {_TENANT: owner.tenant, _COLLECTION: owner.collection}
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
            pa.field("document_id", pa.string()),
            pa.field("revision", pa.int64()),
            pa.field("written_ms", pa.int64()),  # since the epoch
            pa.field("position", pa.float64()),  # a double, as every number that filters compare
            pa.field("document", pa.string()),
            pa.field("version", pa.string()),
            pa.field("text", pa.string()),
            pa.field(TERMS, pa.string()),
            pa.field("metadata", pa.string()),
            SECTION_FIELD,
            pa.field("vector", pa.list_(pa.float32(), dimension)),
        ],
        metadata=marks,
    )


def check_owner(schema: pa.Schema, owner: Owner) -> None:
    """Raises Problem COLLECTION_NOT_FOUND for a table that was made for another owner."""
    marks: Mapping[bytes, bytes] = schema.metadata or {}
    tenant, collection = (marks.get(mark, b"").decode() for mark in (_TENANT, _COLLECTION))
    if not owner.admits(tenant, collection):
        raise Problem(ProblemType.COLLECTION_NOT_FOUND, "The index belongs to another collection.")


def table_id(schema: pa.Schema) -> str:
    """What no other table has, also none of the same name; empty for a table that a version before this made."""
    given: bytes = (schema.metadata or {}).get(_TABLE_ID, b"")
    return given.decode()


def dimension_of(schema: pa.Schema) -> int:
    return int(schema.field("vector").type.list_size)


def columns_of(schema: pa.Schema) -> dict[str, Column]:
    """The filterable columns by field name: the reserved ones and all metadata keys."""
    types = {arrow: kind for kind, arrow in _ARROW.items()}
    metadata = {
        field.name.removeprefix(_PREFIX): Column(field.name, types[field.type])
        for field in schema
        if field.name.startswith(_PREFIX)
    }
    return {**metadata, **_RESERVED}


def field_of(key: str, kind: ColumnType) -> pa.Field:
    """The column of a metadata key."""
    return pa.field(_PREFIX + key, _ARROW[kind])


def keys_of(document: IndexedDocument) -> list[Key]:
    return [Key(document.id, chunk.position) for chunk in document.chunks]


def rows_of(
    documents: Sequence[IndexedDocument], gone: Mapping[Key, int], schema: pa.Schema, *, now_ms: int
) -> pa.Table:
    """The rows of the documents' chunks, and a tombstone for each key in `gone` with its revision."""
    pairs = [(document, chunk) for document in documents for chunk in document.chunks]
    dead = pa.nulls(len(gone))
    columns: dict[str, pa.Array] = {
        "id": _strings([*(str(Key(d.id, c.position)) for d, c in pairs), *map(str, gone)]),
        "document_id": _strings([*(d.id for d, _ in pairs), *(key.document_id for key in gone)]),
        "revision": pa.array([*(d.revision for d, _ in pairs), *gone.values()], pa.int64()),
        "written_ms": pa.array([now_ms] * (len(pairs) + len(gone)), pa.int64()),
        "vector": pa.concat_arrays([_vectors([c.vector for _, c in pairs], schema), _like(dead, schema, "vector")]),
    }
    alive: dict[str, list[Any]] = {
        "position": [c.position for _, c in pairs],
        "document": [d.name for d, _ in pairs],
        "version": [d.version for d, _ in pairs],
        "text": [as_unicode(c.text) for _, c in pairs],
        "metadata": [json.dumps(dict(c.metadata)) for _, c in pairs],
        SECTION: [c.section for _, c in pairs],
        ALLOWED: [None if d.allowed is None else list(d.allowed) for d, _ in pairs],
        ALLOWED_REVISION: [d.allowed_revision for d, _ in pairs],
    }
    if TERMS in schema.names:
        alive[TERMS] = [terms for document in documents for terms in passage_terms(document)]
    for name in schema.names:
        if name not in columns:
            key = name.removeprefix(_PREFIX)
            values = alive[name] if name in alive else [c.metadata.get(key) for _, c in pairs]
            columns[name] = pa.concat_arrays([_typed(values, schema, name), _like(dead, schema, name)])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def terms_of(row: Row) -> str:
    """The terms of a row that has the column `text`, and TERMS where the table has it."""
    stored: str | None = row.get(TERMS)
    return analyze(row["text"]) if stored is None else stored


def without_outdated(*rankings: Sequence[Row]) -> list[list[Row]]:
    """The rankings with only the greatest revision of each document that shows in any of them."""
    latest: dict[str, int] = {}
    for ranking in rankings:
        for row in ranking:
            latest[row["document_id"]] = max(row["revision"], latest.get(row["document_id"], row["revision"]))
    return [[row for row in ranking if row["revision"] == latest[row["document_id"]]] for ranking in rankings]


def _strings(values: Sequence[str]) -> pa.Array:
    return pa.array(values, pa.string())


def _typed(values: Sequence[Any], schema: pa.Schema, name: str) -> pa.Array:
    kind = schema.field(name).type
    if kind == pa.float64():
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, kind)


def _like(nulls: pa.Array, schema: pa.Schema, name: str) -> pa.Array:
    return pa.nulls(len(nulls), schema.field(name).type)


def _vectors(vectors: Sequence[Vector], schema: pa.Schema) -> pa.Array:
    dimension = dimension_of(schema)
    flat = np.concatenate([np.asarray(v, dtype=np.float32) for v in vectors]) if vectors else np.empty(0, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), dimension).cast(schema.field("vector").type)
