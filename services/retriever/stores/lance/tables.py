"""Open handles on the tables of one database, each opened once and opened again when it has gone stale."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Final, Self, TypeVar

import lancedb
import pyarrow as pa
from lancedb.db import AsyncConnection
from lancedb.table import AsyncTable

from services.retriever.stores.lance.compaction import ensure_indices
from services.retriever.stores.lance.durability import TableFiles, boot_id, local_root
from services.retriever.stores.lance.rows import base_schema, check_owner
from shared.contracts.collections import Owner
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Tables"]

T = TypeVar("T")

ATTEMPTS = 3

PAUSES: Final = (0.0, 0.05, 0.2, 0.5)
"""Seconds before an operation is repeated on a table that is opened anew. A table that is being dropped loses its files
one by one, and can be opened meanwhile."""

NAMES: Final = 1_000
"""Names in one page of a listing."""

# What Lance raises when files of a table are gone, because another process dropped it.
_STALE = (RuntimeError, OSError)


class Tables:
    """Those of the database that `connect` connects to, in `files` where it is a folder. A lock per table orders the
    writes of this process; reads take none.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        connect: Callable[[], Awaitable[AsyncConnection]],
        files: TableFiles | None = None,
    ) -> None:
        self._connection = connection
        self._connect = connect
        self._files = files
        self._recovered: set[str] = set()
        self._recovering: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._damaged: dict[str, list[str]] = {}
        self._open: dict[str, AsyncTable] = {}
        self._prepared: set[str] = set()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    async def open(
        cls,
        uri: str,
        *,
        consistency: timedelta = timedelta(0),
        storage_options: Mapping[str, str] | None = None,
        boot: str | None = None,
        read_only: bool = False,
    ) -> Self:
        """Connect to a folder or an object-store URI, as `LanceStore.open` says. A reader (`read_only`) leaves what a
        power cut has left in part to the writers."""
        connect = partial(
            lancedb.connect_async,
            uri,
            read_consistency_interval=consistency,
            storage_options=dict(storage_options or {}) or None,
        )
        root = None if read_only else local_root(uri)
        files = None if root is None else TableFiles(root, boot_id() if boot is None else boot)
        return cls(await connect(), connect, files)

    async def names(self) -> list[str]:
        """The names of all tables."""
        found: list[str] = []
        token: str | None = None
        while True:
            page = await self._connection.list_tables(page_token=token, limit=NAMES)
            found += page.tables
            token = page.page_token
            if not token:
                return found

    async def create(self, name: str, schema: pa.Schema) -> AsyncTable:
        """An empty table. Hold `committing` meanwhile. Raises ValueError where there is one of this name."""
        self._open[name] = await self._connection.create_table(name, schema=schema)
        return self._open[name]

    def writing(self, name: str) -> asyncio.Lock:
        """Hold this while writing; not reentrant."""
        return self._locks[name]

    @asynccontextmanager
    async def committing(self, name: str) -> AsyncIterator[None]:
        """As `writing`. In a folder, everything that is committed is on disk at the end."""
        async with self._locks[name]:
            if self._files is None:
                yield
                return
            await self._recover(name)
            with await asyncio.to_thread(self._files.lock, name):
                await asyncio.to_thread(self._files.begin, name)
                yield
                await asyncio.to_thread(self._files.flush, name)

    async def exists(self, name: str) -> bool:
        """Whether there is a table of this name. Raises Problem INDEX_DAMAGED."""
        return bool(await self.use(name, _is_there))

    async def use(
        self, name: str, operation: Callable[[AsyncTable], Awaitable[T]], owner: Owner | None = None
    ) -> T | None:
        """The operation's result, None where the table is absent.

        A failure is taken for a stale handle, or a table that is being dropped: the table is opened anew and the
        operation repeated, several times. Raises Problem COLLECTION_NOT_FOUND where the table is not the owner's, and
        INDEX_DAMAGED.
        """
        checked = operation if owner is None else partial(_checked, operation=operation, owner=owner)
        for pause in PAUSES:
            try:
                return None if (table := await self._get(name)) is None else await checked(table)
            except _STALE:
                self._forget(name)
                await asyncio.sleep(pause)
        try:
            return None if (table := await self._get(name)) is None else await checked(table)
        except _STALE as error:
            if self._files is None or "not found" not in str(error).lower():
                raise
            raise _damaged("a file of the collection's index is gone") from error

    async def make(
        self, name: str, dimension: int, operation: Callable[[AsyncTable], Awaitable[T]], owner: Owner | None = None
    ) -> T:
        """As `use`, on a table that is created with its indices, as the owner's, where it is absent. Hold `writing`
        meanwhile."""
        for _ in range(ATTEMPTS):
            await self._prepare(name, dimension, owner)
            result = await self.use(name, operation, owner)
            if result is not None:
                return result
        raise RuntimeError(f"the table {name} is dropped again and again")

    async def open_anew(self, name: str) -> AsyncTable | None:
        """A handle on the newest version that nobody else has; None where the table is absent.

        Raises Problem INDEX_DAMAGED.
        """
        await self._recover(name)
        return await self._open_table(name)

    async def _open_table(self, name: str) -> AsyncTable | None:
        try:
            return await self._connection.open_table(name)
        except ValueError as error:
            if "not found" not in str(error):
                raise
            return None

    async def _prepare(self, name: str, dimension: int, owner: Owner | None) -> None:
        if name in self._prepared:
            return
        table = await self._get(name) or await self._create(name, dimension, owner)
        await ensure_indices(table)
        self._prepared.add(name)

    async def drop(self, name: str, owner: Owner | None = None) -> None:
        """Raises Problem COLLECTION_NOT_FOUND where the table is not the owner's. An absent one is no error, and nor is
        a damaged one that says whose it is."""
        if owner is not None and (table := await self._open_table(name)) is not None:
            check_owner(await table.schema(), owner)
        if self._files is None:
            await self._drop(name)
            return
        with await asyncio.to_thread(self._files.lock, name):
            await self._drop(name)
            self._files.forget(name)

    async def _drop(self, name: str) -> None:
        self._forget(name)
        await self._connection.drop_table(name, ignore_missing=True)
        self._damaged.pop(name, None)

    async def renew(self) -> None:
        """Connect anew, and so with empty caches; the old ones go with the last operation that uses them."""
        self._connection = await self._connect()
        self._open.clear()

    def close(self) -> None:
        for name in list(self._open):
            self._forget(name)
        self._connection.close()

    async def _get(self, name: str) -> AsyncTable | None:
        if name not in self._open:
            table = await self.open_anew(name)
            if table is None:
                return None
            self._open[name] = table
        return self._open[name]

    async def _recover(self, name: str) -> None:
        """Once in a process. Raises Problem INDEX_DAMAGED where files of the table are not what was written."""
        async with self._recovering[name]:
            # One that began before another's end could take a new version for one that the power cut has left.
            if self._files is not None and name not in self._recovered:
                if damaged := await asyncio.to_thread(self._files.recover, name):
                    self._damaged[name] = damaged
                self._recovered.add(name)
        if damaged := self._damaged.get(name, []):
            raise _damaged(f"{len(damaged)} files of the collection's index are not what was written")

    async def _create(self, name: str, dimension: int, owner: Owner | None) -> AsyncTable:
        try:
            table = await self._connection.create_table(name, schema=base_schema(dimension, owner))
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            table = await self._connection.open_table(name)
        self._open[name] = table
        return table

    def _forget(self, name: str) -> None:
        """A handle in use elsewhere stays valid for whoever holds it."""
        self._open.pop(name, None)
        self._prepared.discard(name)


async def _is_there(_: AsyncTable) -> bool:
    return True


def _damaged(what: str) -> Problem:
    return Problem(
        ProblemType.INDEX_DAMAGED,
        f"The index is damaged: {what}. Restore it from a backup and start the retriever again, or reindex the "
        "collection with force.",
    )


async def _checked(table: AsyncTable, operation: Callable[[AsyncTable], Awaitable[T]], owner: Owner) -> T:
    check_owner(await table.schema(), owner)
    return await operation(table)
