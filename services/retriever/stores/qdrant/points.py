"""Documents and passages as points, and points as the rows that are ranked."""

import json
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from qdrant_client import models

from services.retriever.ranking.lexical import K1, B
from services.retriever.stores.base import IndexedDocument
from services.retriever.stores.columns import ColumnType
from services.retriever.stores.documents import as_unicode, passage_terms
from services.retriever.stores.hits import HIT_COLUMNS
from services.retriever.stores.qdrant.layout import (
    ALLOWED_REVISION,
    CHUNKS,
    DENSE,
    DOCUMENT,
    DOCUMENT_ID,
    FOREVER,
    METADATA,
    POSITION,
    READERS,
    REVISION,
    SECTION,
    SINCE,
    TABLE,
    TERMS,
    TEXT,
    UNTIL,
    VERSION,
    WORDS,
    WRITTEN_MS,
    column,
    payload_of,
)
from services.retriever.stores.qdrant.view import readers_of

__all__ = ["HIT_PAYLOAD", "Row", "copied", "document_point", "key_of", "passage_points", "sparse"]

Row: TypeAlias = Mapping[str, Any]
"""The payload of a passage."""

HIT_PAYLOAD: Final = [*HIT_COLUMNS, SECTION, TERMS]

USUAL_LENGTH: Final = 150.0
"""Terms of a passage of usual length. The server sorts out by it which passages are ranked, and the ranking itself goes
by the table's own average."""


def passage_points(document: IndexedDocument, table: str, commit: int) -> Iterator[models.PointStruct]:
    for chunk, terms in zip(document.chunks, passage_terms(document), strict=True):
        payload: dict[str, Any] = {
            TABLE: table,
            SINCE: commit,
            UNTIL: FOREVER,
            DOCUMENT_ID: document.id,
            DOCUMENT: document.name,
            VERSION: document.version,
            REVISION: document.revision,
            READERS: readers_of(document.allowed),
            ALLOWED_REVISION: document.allowed_revision,
            POSITION: float(chunk.position),
            TEXT: as_unicode(chunk.text),
            TERMS: terms,
            METADATA: json.dumps(dict(chunk.metadata)),
        }
        if chunk.section is not None:
            payload[SECTION] = chunk.section
        for key, value in chunk.metadata.items():
            kind, _, name = column(key, ColumnType.of(value)).name.partition(".")
            payload.setdefault(kind, {})[name] = payload_of(value)
        vector: dict[str, Any] = {DENSE: np.asarray(chunk.vector, dtype=np.float32).tolist()}
        if (words := _weighted(terms)).indices:
            vector[WORDS] = words
        yield models.PointStruct(
            id=_point_id(table, commit, document.id, chunk.position), vector=vector, payload=payload
        )


def document_point(document: IndexedDocument, table: str, commit: int, *, now_ms: int) -> models.PointStruct:
    """Without chunks it is a tombstone, and has no list."""
    payload = {
        TABLE: table,
        SINCE: commit,
        UNTIL: FOREVER,
        DOCUMENT_ID: document.id,
        REVISION: document.revision,
        READERS: readers_of(document.allowed if document.chunks else None),
        ALLOWED_REVISION: document.allowed_revision if document.chunks else -1,
        CHUNKS: len(document.chunks),
        WRITTEN_MS: now_ms,
    }
    return models.PointStruct(id=_point_id(table, commit, document.id, None), vector={}, payload=payload)


def copied(
    record: models.Record, commit: int, allowed: Sequence[str] | None, allowed_revision: int
) -> models.PointStruct:
    """The point of a document or a passage again, as this commit writes it: with another list."""
    payload = dict(record.payload or {})
    payload |= {SINCE: commit, UNTIL: FOREVER, READERS: readers_of(allowed), ALLOWED_REVISION: allowed_revision}
    position = int(payload[POSITION]) if POSITION in payload else None
    point = _point_id(payload[TABLE], commit, payload[DOCUMENT_ID], position)
    vector: Any = record.vector or {}
    return models.PointStruct(id=point, vector=vector, payload=payload)


def sparse(forms: Iterable[str]) -> models.SparseVector:
    """What is searched for: each form once. The server weighs it by how rare it is."""
    indices = sorted({_index(form) for form in forms})
    return models.SparseVector(indices=indices, values=[1.0] * len(indices))


def key_of(row: Row) -> str:
    """The same for the same position of the same document, whichever commit wrote it."""
    return f"{row[DOCUMENT_ID]}:{int(row[POSITION])}"


def _weighted(terms: str) -> models.SparseVector:
    """The terms of a passage with what BM25 makes of how often it holds each; the server adds how rare each is."""
    held = terms.split()
    norm = K1 * (1 - B + B * len(held) / USUAL_LENGTH)
    indices, counts = np.unique(np.array([_index(term) for term in held], dtype=np.uint32), return_counts=True)
    weights = counts / (counts + norm)
    return models.SparseVector(indices=indices.tolist(), values=weights.tolist())


def _index(term: str) -> int:
    """Of 32 bits, as the server takes it. Two terms of a million share one with one in 4,000 of the others."""
    return zlib.crc32(term.encode("utf-8", "replace"))


def _point_id(table: str, commit: int, document_id: str, position: int | None) -> str:
    """The same for the same place of the same commit, so that writing it again changes nothing."""
    return str(uuid.uuid5(uuid.UUID(table), f"{commit}\n{position}\n{document_id}"))
