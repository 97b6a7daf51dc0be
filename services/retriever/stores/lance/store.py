"""The store on LanceDB: a local folder or object storage, the same code for both."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Self

from lancedb.table import AsyncTable

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stores.base import (
    DEFAULT_OPTIONS,
    Hits,
    IndexedDocument,
    Permissions,
    Place,
    Readers,
    Replaced,
    StoredChunk,
    Vector,
    check_collection,
    searched_vector,
)
from services.retriever.stores.columns import Column
from services.retriever.stores.documents import check_dimension, check_vectors
from services.retriever.stores.lance.compaction import KEEP_TOMBSTONES, compact
from services.retriever.stores.lance.permissions import for_readers, permit_documents
from services.retriever.stores.lance.read import read_chunks, read_documents
from services.retriever.stores.lance.replace import replace_documents
from services.retriever.stores.lance.rows import ALIVE, columns_of, dimension_of
from services.retriever.stores.lance.search import TableSearch
from services.retriever.stores.lance.sql import compile_filter
from services.retriever.stores.lance.statistics import Statistics, TableStatistics
from services.retriever.stores.lance.tables import Tables
from shared.contracts.collections import Owner
from shared.contracts.filters import Filter
from shared.contracts.problems import Problem

__all__ = ["LanceStore"]

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
        self._statistics = Statistics()

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
        boot: str | None = None,
    ) -> Self:
        """Connect to a folder or an object-store URI (`s3://bucket/prefix`; options as Lance names them).

        Commits of other processes are seen after `consistency` at the latest. A collection is searched exactly up to
        `index_from_rows` chunks. A search may go on reading for `keep_versions` while a collection changes. `boot` is
        another one after each start of the machine; None finds it out.
        """
        tables = await Tables.open(uri, consistency=consistency, storage_options=storage_options, boot=boot)
        return cls(
            tables,
            index_from_rows=index_from_rows,
            keep_versions=keep_versions,
            keep_tombstones=keep_tombstones,
            cached_commits=cached_commits,
        )

    async def replace(
        self,
        collection: str,
        documents: Sequence[IndexedDocument],
        *,
        owner: Owner | None = None,
        dimension: int | None = None,
    ) -> Replaced:
        name = check_collection(collection)
        # What documents bring goes before what the caller says.
        dimension = check_vectors(documents) or dimension
        operation = partial(_replace, documents=documents)
        if dimension is None and not await self._tables.exists(name):
            # Nothing is written, not even what a commit begins with.
            return _absent(documents)
        async with self._tables.committing(name):
            self._commits += 1
            if self._commits % self._cached_commits == 0:
                await self._tables.renew()
            if dimension is not None:
                done: Replaced | None = await self._tables.make(name, dimension, operation, owner)
            else:
                done = await self._tables.use(name, operation, owner)
        return done or _absent(documents)

    async def permit(self, collection: str, documents: Sequence[Permissions], *, owner: Owner | None = None) -> None:
        name = check_collection(collection)
        if not documents or not await self._tables.exists(name):
            return
        async with self._tables.committing(name):
            await self._tables.use(name, partial(permit_documents, documents=documents), owner)

    async def search(
        self,
        collection: str,
        text: str,
        vector: Vector | None,
        *,
        top_k: int,
        filter: Filter | None = None,  # noqa: A002  (the word of the API)
        options: RankOptions = DEFAULT_OPTIONS,
        owner: Owner | None = None,
        readers: Readers = None,
    ) -> Hits:
        vector = searched_vector(vector, options)
        name = check_collection(collection)
        search = partial(
            _search,
            statistics_of=partial(self._statistics.of, name),
            text=text,
            vector=vector,
            top_k=top_k,
            where=filter,
            options=options,
        )
        operation = partial(for_readers, readers=readers, operation=search)
        return await self._tables.use(name, operation, owner) or Hits()

    async def read(
        self, collection: str, places: Collection[Place], *, owner: Owner | None = None, readers: Readers = None
    ) -> Mapping[Place, StoredChunk]:
        name = check_collection(collection)
        operation = partial(for_readers, readers=readers, operation=partial(read_chunks, places=places))
        return (await self._tables.use(name, operation, owner) if places else None) or {}

    async def count(
        self,
        collection: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        owner: Owner | None = None,
        readers: Readers = None,
    ) -> int:
        operation = partial(for_readers, readers=readers, operation=partial(_count, where=filter))
        return await self._tables.use(check_collection(collection), operation, owner) or 0

    async def documents(self, collection: str, *, owner: Owner | None = None) -> Mapping[str, int]:
        return await self._tables.use(check_collection(collection), read_documents, owner) or {}

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
            if not await self._tables.exists(name):
                return
            await self._tables.use(name, operation)
            async with self._tables.committing(name):
                pass  # what the upkeep has committed is on disk at the end

    async def drop(self, collection: str, *, owner: Owner | None = None) -> None:
        name = check_collection(collection)
        async with self._tables.writing(name):
            await self._tables.drop(name, owner)
        self._statistics.forget(name)

    async def open_anew(self, collection: str) -> AsyncTable | None:
        """A handle on the newest version of a collection's table that nobody else has; None where it is absent."""
        return await self._tables.open_anew(check_collection(collection))

    async def close(self) -> None:
        self._tables.close()


def _absent(documents: Sequence[IndexedDocument]) -> Replaced:
    """In an absent collection every deletion is done already."""
    return Replaced(replaced=frozenset(document.id for document in documents), absent=True)


async def _replace(table: AsyncTable, documents: Sequence[IndexedDocument]) -> Replaced:
    dimension = dimension_of(await table.schema())
    for document in documents:
        for chunk in document.chunks:
            check_dimension(len(chunk.vector), dimension)
    done = await replace_documents(table, documents)
    # A list that a document brings counts by its own revision, also where the rest of it comes too late.
    if late := [d for d in documents if d.id in done.superseded and d.allowed_revision >= 0]:
        lists = [Permissions(document_id=d.id, allowed=d.allowed, revision=d.allowed_revision) for d in late]
        await permit_documents(table, lists)
    return done


async def _count(table: AsyncTable, seen: str | None, where: Filter | None) -> int:
    predicate = await _predicate(table, where)
    return int(await table.count_rows(_joined(ALIVE, seen, predicate)))


async def _search(
    table: AsyncTable,
    seen: str | None,
    statistics_of: Callable[[str | None], TableStatistics],
    text: str,
    vector: Vector | None,
    top_k: int,
    where: Filter | None,
    options: RankOptions,
) -> Hits:
    predicate = await _predicate(table, where)
    schema = await table.schema()
    if vector is not None:
        check_dimension(len(vector), dimension_of(schema))
    search = TableSearch(
        table=table, schema=schema, predicate=_joined(seen, predicate) or None, statistics=statistics_of(seen)
    )
    return await search.run(text, vector, top_k=top_k, options=options)


def _joined(*predicates: str | None) -> str:
    """A predicate for what matches all that are given."""
    return " AND ".join(predicate for predicate in predicates if predicate)


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
