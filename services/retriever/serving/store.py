"""A store that answers from memory where it can, and from the disk where it cannot."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from services.retriever.ranking.ranker import RankOptions
from services.retriever.serving.cache import SnapshotCache
from services.retriever.serving.hashing import hashes_of
from services.retriever.serving.index import ServingIndex
from services.retriever.serving.metrics import SEARCHES
from services.retriever.serving.search import search_snapshot
from services.retriever.serving.snapshot import Snapshot
from services.retriever.serving.views import View
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
from services.retriever.stores.documents import check_dimension
from services.retriever.stores.lance.rows import SECTION, Key, check_owner
from services.retriever.stores.lance.sql import compile_filter
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.collections import Owner
from shared.contracts.filters import Filter
from shared.contracts.problems import Problem
from shared.contracts.retrieval import SearchMode

__all__ = ["ServingStore"]

log = logging.getLogger(__name__)

MIB: Final = 2**20

CACHE_SHARE: Final = 2
"""Times the bound of memory that the cache may take on disk: also for collections that were dropped from memory."""


class ServingStore:
    """A `Store` over a `LanceStore`, which has all writes and stays the source of truth.

    `memory` is in MiB, `freshness` in seconds. The first search of a collection waits `patience` seconds for it to be
    loaded; until it is, the disk answers. `cache` is a folder on a local disk for what is kept until the next start.
    An `exhaustive` store compares all vectors: it is slow, and shows what the others miss.
    """

    def __init__(
        self,
        disk: LanceStore,
        *,
        memory: int,
        freshness: float = 1.0,
        patience: float = 0.25,
        cache: Path | None = None,
        threads: int | None = None,
        exhaustive: bool = False,
    ) -> None:
        self._disk = disk
        self._exhaustive = exhaustive
        kept = _open_cache(cache, CACHE_SHARE * memory * MIB) if cache else None
        self._index = ServingIndex(
            disk.open_anew, most_bytes=memory * MIB, freshness=freshness, patience=patience, cache=kept
        )
        self._threads = ThreadPoolExecutor(threads or os.cpu_count(), thread_name_prefix="search")

    @property
    def nbytes(self) -> int:
        """Of the collections in memory."""
        return self._index.nbytes

    async def replace(
        self,
        collection: str,
        documents: Sequence[IndexedDocument],
        *,
        owner: Owner | None = None,
        dimension: int | None = None,
    ) -> Replaced:
        done = await self._disk.replace(collection, documents, owner=owner, dimension=dimension)
        await self._index.follow(collection)
        return done

    async def permit(self, collection: str, documents: Sequence[Permissions], *, owner: Owner | None = None) -> None:
        await self._disk.permit(collection, documents, owner=owner)
        await self._index.follow(collection)

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
        held = await self._index.get(check_collection(collection))
        if held is None or not _fits(held.snapshot, filter):
            SEARCHES.labels("disk").inc()
            return await self._disk.search(
                collection, text, vector, top_k=top_k, filter=filter, options=options, owner=owner, readers=readers
            )
        SEARCHES.labels("memory").inc()
        snapshot = held.snapshot
        _check_owner(snapshot, owner)
        if vector is not None:
            check_dimension(len(vector), snapshot.origin.dimension)
        operation = partial(
            _search,
            partial(held.views.of, snapshot, readers),
            text,
            vector,
            top_k=top_k,
            where=filter,
            options=options,
            exhaustive=self._exhaustive,
        )
        return await asyncio.get_running_loop().run_in_executor(self._threads, operation)

    async def read(
        self, collection: str, places: Collection[Place], *, owner: Owner | None = None, readers: Readers = None
    ) -> Mapping[Place, StoredChunk]:
        held = await self._index.get(check_collection(collection)) if places else None
        if held is None:
            return await self._disk.read(collection, places, owner=owner, readers=readers)
        _check_owner(held.snapshot, owner)
        operation = partial(_read, partial(held.views.of, held.snapshot, readers), list(places))
        return await asyncio.get_running_loop().run_in_executor(self._threads, operation)

    async def count(
        self,
        collection: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        owner: Owner | None = None,
        readers: Readers = None,
    ) -> int:
        return await self._disk.count(collection, filter, owner=owner, readers=readers)

    async def documents(self, collection: str, *, owner: Owner | None = None) -> Mapping[str, int]:
        return await self._disk.documents(collection, owner=owner)

    async def maintain(self, collection: str) -> None:
        await self._disk.maintain(collection)

    async def drop(self, collection: str, *, owner: Owner | None = None) -> None:
        await self._disk.drop(check_collection(collection), owner=owner)
        self._index.forget(collection)

    async def close(self) -> None:
        await self._index.close()
        self._threads.shutdown()
        await self._disk.close()


def _open_cache(folder: Path, most_bytes: int) -> SnapshotCache | None:
    try:
        return SnapshotCache(folder, most_bytes)
    except OSError as error:
        log.warning("nothing is kept for the next start, as the folder %s cannot be used: %s", folder, error)
        return None


def _check_owner(snapshot: Snapshot, owner: Owner | None) -> None:
    if owner is not None:
        check_owner(snapshot.origin.schema, owner)


def _fits(snapshot: Snapshot, where: Filter | None) -> bool:
    """Whether the snapshot knows the filter's fields. What is wrong otherwise the disk says, which may be newer."""
    if where is None:
        return True
    try:
        compile_filter(where, snapshot.origin.columns)
    except Problem:
        return False
    return True


def _search(
    view_of: Callable[[], View],
    text: str,
    vector: Vector | None,
    *,
    top_k: int,
    where: Filter | None,
    options: RankOptions,
    exhaustive: bool,
) -> Hits:
    view = view_of()
    languages = view.languages.of(view.snapshot) if options.mode is not SearchMode.VECTOR else ()
    return search_snapshot(
        view.snapshot,
        text,
        vector,
        top_k=top_k,
        filter=where,
        options=options,
        languages=languages,
        exhaustive=exhaustive,
    )


def _read(view_of: Callable[[], View], places: Sequence[Place]) -> dict[Place, StoredChunk]:
    snapshot = view_of().snapshot
    rows = snapshot.find(hashes_of(str(Key(place.document_id, place.position)) for place in places))
    there = [place for place, row in zip(places, rows, strict=True) if row >= 0]
    cells = snapshot.cells(rows[rows >= 0], ["revision", "text", SECTION])
    return {
        place: StoredChunk(place=place, revision=row["revision"], text=row["text"], section=row[SECTION])
        for place, row in zip(there, cells, strict=True)
    }
