"""The store on LanceDB: a local folder or object storage, the same code for both."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Self

import lancedb
from lancedb.query import AsyncFTSQuery, AsyncVectorQuery, MatchQuery
from lancedb.table import AsyncTable

from services.retriever.stores.base import Hit, IndexedDocument, Mode, Replaced, Vector, check_collection
from services.retriever.stores.fusion import reciprocal_rank_fusion
from services.retriever.stores.lance.compaction import KEEP_TOMBSTONES, compact
from services.retriever.stores.lance.replace import replace_documents
from services.retriever.stores.lance.rows import (
    ALIVE,
    HIT_COLUMNS,
    Row,
    check_vectors,
    columns_of,
    dimension_of,
    hit_of,
    without_outdated,
)
from services.retriever.stores.lance.sql import Column, compile_filter
from services.retriever.stores.lance.tables import Tables
from shared.contracts.filters import Filter
from shared.contracts.problems import Problem, ProblemType

__all__ = ["LanceStore"]

DEPTH = 4
"""How many times `top_k` each ranking of a hybrid search goes down, at least MIN_DEPTH."""
MIN_DEPTH = 20

NPROBES = 20
"""Partitions of the vector index that a search reads; more where a filter leaves too few results."""
REFINED = 80
"""At least so many candidates of the index are ranked again by their full vectors, and three times as many as wanted.

Of the 40 nearest, which a hybrid search for 10 looks at, twice as many find 98 %, three times as many 99.8 %.
"""
REFINED_FILTERED = 320
"""The same where a filter holds: what is left lies further away, where the index tells less. Of a million passages, of
which a filter keeps a hundredth, 80 candidates find 85 % of the nearest ten and 320 find 99 %.
"""


CACHED_COMMITS = 128
"""Commits after which the caches are begun anew: of each they keep a third of a megabyte, and an open file of every
fourth one's, also when compaction has removed it.
"""


class LanceStore:
    """A `Store`. Open one per process; several may share the storage."""

    def __init__(
        self,
        tables: Tables,
        *,
        index_from_rows: int,
        keep_versions: timedelta,
        keep_tombstones: timedelta,
        cached_commits: int,
    ) -> None:
        self._tables = tables
        self._index_from_rows = index_from_rows
        self._keep_versions = keep_versions
        self._keep_tombstones = keep_tombstones
        self._cached_commits = cached_commits
        self._maintaining = asyncio.Lock()
        self._commits = 0

    @classmethod
    async def open(
        cls,
        uri: str,
        *,
        consistency: timedelta = timedelta(seconds=1),
        index_from_rows: int = 2_000,
        keep_versions: timedelta = timedelta(minutes=10),
        keep_tombstones: timedelta = KEEP_TOMBSTONES,
        cached_commits: int = CACHED_COMMITS,
        storage_options: Mapping[str, str] | None = None,
    ) -> Self:
        """Connect to a folder or an object-store URI (`s3://bucket/prefix`; options as Lance names them).

        Commits of other processes are seen after `consistency` at the latest. A collection is searched exactly up to
        `index_from_rows` chunks. A search may go on reading for `keep_versions` while a collection changes.
        """
        connect = partial(
            lancedb.connect_async,
            uri,
            read_consistency_interval=consistency,
            storage_options=dict(storage_options or {}) or None,
        )
        tables = Tables(await connect(), connect)
        return cls(
            tables,
            index_from_rows=index_from_rows,
            keep_versions=keep_versions,
            keep_tombstones=keep_tombstones,
            cached_commits=cached_commits,
        )

    async def replace(self, collection: str, documents: Sequence[IndexedDocument]) -> Replaced:
        name = check_collection(collection)
        dimension = check_vectors(documents)
        operation = partial(_replace, documents=documents)
        async with self._tables.writing(name):
            self._commits += 1
            if self._commits % self._cached_commits == 0:
                await self._tables.renew()
            if dimension is not None:
                return await self._tables.make(name, dimension, operation)
            done = await self._tables.use(name, operation)
        # In an absent collection every deletion is done already.
        return done or Replaced(replaced=frozenset(document.id for document in documents))

    async def search(
        self,
        collection: str,
        text: str,
        vector: Vector | None,
        *,
        top_k: int,
        filter: Filter | None = None,  # noqa: A002  (the word of the API)
        mode: Mode = Mode.HYBRID,
    ) -> list[Hit]:
        if vector is None and mode is not Mode.TEXT:
            raise ValueError(f"a search with mode {mode} needs a vector")
        operation = partial(_search, text=text, vector=vector, top_k=top_k, where=filter, mode=mode)
        return await self._tables.use(check_collection(collection), operation) or []

    async def count(self, collection: str, filter: Filter | None = None) -> int:  # noqa: A002
        return await self._tables.use(check_collection(collection), partial(_count, where=filter)) or 0

    async def maintain(self, collection: str) -> None:
        name = check_collection(collection)
        operation = partial(
            compact,
            writing=self._tables.writing(name),
            index_from_rows=self._index_from_rows,
            keep_versions=self._keep_versions,
            keep_tombstones=self._keep_tombstones,
        )
        async with self._maintaining:
            await self._tables.use(name, operation)

    async def drop(self, collection: str) -> None:
        name = check_collection(collection)
        async with self._tables.writing(name):
            await self._tables.drop(name)

    async def close(self) -> None:
        self._tables.close()


async def _replace(table: AsyncTable, documents: Sequence[IndexedDocument]) -> Replaced:
    dimension = dimension_of(await table.schema())
    for document in documents:
        for chunk in document.chunks:
            _check_dimension(len(chunk.vector), dimension)
    return await replace_documents(table, documents)


async def _count(table: AsyncTable, where: Filter | None) -> int:
    predicate = await _predicate(table, where)
    return int(await table.count_rows(f"{ALIVE} AND {predicate}" if predicate else ALIVE))


async def _search(
    table: AsyncTable, text: str, vector: Vector | None, top_k: int, where: Filter | None, mode: Mode
) -> list[Hit]:
    predicate = await _predicate(table, where)
    if vector is not None and mode is not Mode.TEXT:
        _check_dimension(len(vector), dimension_of(await table.schema()))
    if mode is Mode.VECTOR:
        assert vector is not None
        near = await _by_vector(table, vector, top_k, predicate)
        return [hit_of(row, 1.0 - row["_distance"], rank, None) for rank, row in enumerate(near, start=1)]
    if mode is Mode.TEXT:
        found = await _by_text(table, text, top_k, predicate)
        return [hit_of(row, row["_score"], None, rank) for rank, row in enumerate(found, start=1)]
    assert vector is not None
    depth = max(DEPTH * top_k, MIN_DEPTH)
    near, found = await _both(
        partial(_by_vector, table, vector, depth, predicate), partial(_by_text, table, text, depth, predicate)
    )
    return _fuse(near, found)[:top_k]


async def _predicate(table: AsyncTable, where: Filter | None) -> str | None:
    if where is None:
        return None
    try:
        return compile_filter(where, await _columns(table))
    except Problem:
        # Another process may have added the field a moment ago.
        await table.checkout_latest()
        return compile_filter(where, await _columns(table))


async def _columns(table: AsyncTable) -> dict[str, Column]:
    return columns_of(await table.schema())


async def _by_vector(table: AsyncTable, vector: Vector, limit: int, predicate: str | None) -> list[Row]:
    """Rows with `_distance`, nearest first."""
    query = table.vector_search(vector).distance_type("cosine").minimum_nprobes(NPROBES).maximum_nprobes(0)
    refined = REFINED_FILTERED if predicate else REFINED
    query = query.refine_factor(max(3, math.ceil(refined / limit)))
    rows = await _rows(query, [*HIT_COLUMNS, "_distance"], limit, predicate)
    return sorted(rows, key=lambda row: (row["_distance"], row["document_id"], row["position"]))


async def _by_text(table: AsyncTable, text: str, limit: int, predicate: str | None) -> list[Row]:
    """Rows with `_score`, best first."""
    words = text.encode("utf-8", "replace").decode()
    query = table.query().nearest_to_text(MatchQuery(words, "text"))
    rows = await _rows(query, [*HIT_COLUMNS, "_score"], limit, predicate)
    return sorted(rows, key=lambda row: (-row["_score"], row["document_id"], row["position"]))


async def _rows(
    query: AsyncVectorQuery | AsyncFTSQuery, columns: list[str], limit: int, predicate: str | None
) -> list[Row]:
    if predicate:
        query = query.where(predicate)
    found = await query.select(columns).limit(limit).to_arrow()
    rows: list[Row] = found.to_pylist()
    return rows


async def _both(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[list[Row], list[Row]]:
    try:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(first()), group.create_task(second())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return one.result(), two.result()


def _fuse(near: list[Row], found: list[Row]) -> list[Hit]:
    """Fuse two rankings. A commit may lie between the two readings of the table, hence `without_outdated`."""
    near, found = without_outdated(near, found)
    rows = {row["id"]: row for row in (*near, *found)}
    fused = reciprocal_rank_fusion([row["id"] for row in near], [row["id"] for row in found])
    return [hit_of(rows[item.key], item.score, *item.ranks) for item in fused]


def _check_dimension(given: int, expected: int) -> None:
    if given != expected:
        raise Problem(
            ProblemType.CONFLICT,
            f"The collection holds vectors of {expected} dimensions, but this one has {given}. "
            "Use the embedding model that the collection was made with, or index it anew.",
        )
