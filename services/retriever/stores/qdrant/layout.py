"""How an index lies in Qdrant.

Three kinds of collections, whose names begin with the prefix of the index:

- `<prefix>_tables`: a point for each table, as Sluice calls its collections' indices, with its state: see `state`.
- `<prefix>_documents`: a point for each version of a document, without vectors. One without chunks is a tombstone.
- `<prefix>_passages_<dimension>`: a point for each version of a chunk, with its vector and, as a sparse
  one, its words.

So the tables of all tenants share collections, as each collection of Qdrant costs it memory and files. The payload
TABLE parts them: its index is one of tenants, each of which has a graph of vectors of its own. A point counts from the
commit SINCE until the commit UNTIL: see `view`.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from services.retriever.stores.columns import Column, ColumnType
from services.retriever.stores.qdrant.address import Address
from services.retriever.stores.qdrant.connection import Connection
from shared.contracts.filters import Scalar
from shared.contracts.problems import Problem

__all__ = [
    "ALLOWED_REVISION",
    "CHUNKS",
    "DENSE",
    "DOCUMENT",
    "DOCUMENT_ID",
    "ENDED_MS",
    "FOREVER",
    "METADATA",
    "NAME",
    "POSITION",
    "READERS",
    "REVISION",
    "SECTION",
    "SINCE",
    "STAMP",
    "STATE",
    "TABLE",
    "TERMS",
    "TEXT",
    "UNTIL",
    "VERSION",
    "WORDS",
    "WRITTEN_MS",
    "Layout",
    "column",
    "payload_of",
    "reserved_columns",
]

log = logging.getLogger(__name__)

# Payload of a table's point.
NAME, STAMP, STATE = "name", "stamp", "state"

# Payload of the points of documents and passages.
TABLE, SINCE, UNTIL, ENDED_MS = "table", "since", "until", "ended_ms"
DOCUMENT_ID, DOCUMENT, VERSION, REVISION = "document_id", "document", "version", "revision"
READERS, ALLOWED_REVISION = "readers", "allowed_revision"
# Of documents alone.
CHUNKS, WRITTEN_MS = "chunks", "written_ms"
# Of passages alone; with those above they have the names of HIT_COLUMNS. Metadata is there twice: as JSON, which gives
# it back exactly, and by type, for filters.
POSITION, SECTION, TEXT, TERMS, METADATA = "position", "section", "text", "terms", "metadata"

DENSE, WORDS = "dense", "words"
"""The vectors of a passage."""

FOREVER: Final = 2**53 - 1
"""UNTIL of what no commit has ended."""

INDEX_SECONDS: Final = 60.0
"""In which a server makes a payload index. It goes on where that takes longer."""

MOST_FIELDS: Final = 512
"""Metadata fields that get an index in one collection of Qdrant; others are filtered without."""

_KINDS: Final = {ColumnType.STRING: "strings", ColumnType.NUMBER: "numbers", ColumnType.BOOLEAN: "booleans"}
# Graphs are of tables alone: one for the values of each field would take long to build.
_TENANT = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
_KEYWORD = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, enable_hnsw=False)
_INTEGER = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, enable_hnsw=False)
_FLOAT = models.FloatIndexParams(type=models.FloatIndexType.FLOAT, enable_hnsw=False)

_SCHEMAS: Final = {ColumnType.STRING: _KEYWORD, ColumnType.NUMBER: _FLOAT, ColumnType.BOOLEAN: _KEYWORD}
_VERSIONED: Final[Mapping[str, Any]] = {
    TABLE: _TENANT,
    SINCE: _INTEGER,
    UNTIL: _INTEGER,
    DOCUMENT_ID: _KEYWORD,
    READERS: _KEYWORD,
}


def column(key: str, kind: ColumnType) -> Column:
    """The payload of a metadata key. Other tables may have the key with another type."""
    return Column(f"{_KINDS[kind]}.{key}", kind)


def payload_of(value: Scalar) -> str | float:
    """A value of metadata as its column has it: numbers as doubles, `true` and `false` as words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else float(value)


def reserved_columns() -> dict[str, Column]:
    """Of the fields that every passage has."""
    return {
        "document": Column(DOCUMENT, ColumnType.STRING),
        "document_id": Column(DOCUMENT_ID, ColumnType.STRING),
        "position": Column(POSITION, ColumnType.NUMBER),
    }


class Layout:
    """The collections of one index. Those that are absent are made; those that are there are used as they are."""

    def __init__(self, connection: Connection, address: Address) -> None:
        self._connection = connection
        self._address = address
        self._made: dict[str, set[str]] = {}
        self._making = asyncio.Lock()

    @property
    def tables(self) -> str:
        return f"{self._address.prefix}_tables"

    @property
    def documents(self) -> str:
        return f"{self._address.prefix}_documents"

    def passages(self, dimension: int) -> str:
        return f"{self._address.prefix}_passages_{dimension}"

    async def make_tables(self) -> None:
        # Of one shard, so that changes of a table's state come one after the other.
        await self._make(self.tables, {}, {}, {NAME: _KEYWORD, STAMP: _KEYWORD}, shards=1)

    async def make(self, dimension: int) -> None:
        """Make what a table with vectors of this dimension lies in."""
        await self._make(self.documents, {}, {}, {**_VERSIONED, CHUNKS: _INTEGER, WRITTEN_MS: _INTEGER})
        vectors = {
            DENSE: models.VectorParams(
                size=dimension,
                distance=models.Distance.COSINE,
                on_disk=True,
            )
        }
        words = {WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)}
        indices = {**_VERSIONED, DOCUMENT: _KEYWORD, POSITION: _FLOAT}
        # A graph for each tenant of the payload's index, and none over all of them.
        hnsw = models.HnswConfigDiff(m=0, payload_m=16)
        await self._make(self.passages(dimension), vectors, words, indices, hnsw=hnsw)

    async def index_fields(self, dimension: int, columns: Mapping[str, Column]) -> None:
        """Have the metadata fields indexed."""
        await self.make(dimension)
        name = self.passages(dimension)
        for one in columns.values():
            known = self._made.setdefault(name, set())
            if one.name not in known and len(known) < MOST_FIELDS:
                await self._index(name, one.name, _SCHEMAS[one.type])
                known.add(one.name)

    def forget(self) -> None:
        """Look again at what is there: somebody has removed a collection."""
        self._made.clear()

    async def _make(
        self,
        name: str,
        vectors: Mapping[str, models.VectorParams],
        words: Mapping[str, models.SparseVectorParams],
        indices: Mapping[str, Any],
        *,
        shards: int | None = None,
        hnsw: models.HnswConfigDiff | None = None,
    ) -> None:
        if name in self._made:
            return
        async with self._making:
            if name in self._made:
                return
            if not await self._connection.call(lambda client: client.collection_exists(name)):
                await self._create(name, vectors, words, shards or self._address.shards, hnsw)
            for field, schema in indices.items():
                await self._index(name, field, schema)
            self._made[name] = set(indices)

    async def _create(
        self,
        name: str,
        vectors: Mapping[str, models.VectorParams],
        words: Mapping[str, models.SparseVectorParams],
        shards: int | None,
        hnsw: models.HnswConfigDiff | None,
    ) -> None:
        replicas = self._address.replicas

        def create(client: AsyncQdrantClient) -> Any:
            return client.create_collection(
                name,
                vectors_config=dict(vectors),
                sparse_vectors_config=dict(words) or None,
                shard_number=shards,
                replication_factor=replicas,
                # A commit is on every replica before it counts: a search may ask any of them.
                write_consistency_factor=replicas,
                on_disk_payload=True,
                hnsw_config=hnsw,
            )

        try:
            await self._connection.call(create, seconds=INDEX_SECONDS)
        except (UnexpectedResponse, ValueError):
            # Another process has made it meanwhile.
            if not await self._connection.call(lambda client: client.collection_exists(name)):
                raise
        log.info("made the collection %s of the index", name)

    async def _index(self, name: str, field: str, schema: Any) -> None:
        try:
            await self._connection.call(
                lambda client: client.create_payload_index(name, field, field_schema=schema, wait=True),
                seconds=INDEX_SECONDS,
            )
        except UnexpectedResponse as error:
            log.warning("the field %s of %s is filtered without an index: Qdrant said %s", field, name, error)
        except Problem as problem:
            if not isinstance(problem.__cause__, TimeoutError):
                raise
            log.warning("the index of the field %s of %s is not ready yet", field, name)
