"""Makes a backup while everything runs.

Changes of the index are held while the streams and the versions of the tables are taken: see `pause`. The rows of these
versions are copied afterwards. The log of jobs comes last of the streams: it decides what a job's state is, so what
else tells of jobs must not be newer.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from services.retriever.backup.catalog import ABANDONED, Catalog, backup_name
from services.retriever.backup.connection import broker
from services.retriever.backup.errors import BackupError
from services.retriever.backup.manifest import BackedUpStream, BackedUpTable, BackupFile, Manifest
from services.retriever.backup.pause import index_paused
from services.retriever.backup.settings import BackupSettings
from services.retriever.backup.snapshots import open_snapshot
from services.retriever.stores.lance.tables import Tables
from services.retriever.stores.lance.transfer import PinnedTable, TableGoneError, pin_table, release_pins
from shared.nats.client import server_version
from shared.nats.subjects import BUCKETS, DEAD_LETTERS, JOB_EVENTS, JOBS, STORES, TIMERS, bucket_stream, store_stream
from shared.tasks import task_group
from shared.version import VERSION

__all__ = ["DURABLE", "BackupRun", "create_backup"]

DURABLE: Final = (
    *(JOBS, TIMERS, DEAD_LETTERS),
    *map(bucket_stream, BUCKETS),
    *map(store_stream, STORES),
    JOB_EVENTS,
)
"""All streams on disk. `QUERIES` is in memory, and nothing in it outlives its deadline."""

AT_ONCE: Final = 4
"""Streams that are copied at once."""

TRIES: Final = 3
"""Backups that are begun before one is given up whose tables are dropped meanwhile."""


@dataclass(slots=True)
class BackupRun:
    """One backup. `said` is told how far it is."""

    settings: BackupSettings
    catalog: Catalog
    has_index: bool
    said: Callable[[str], None]
    name: str = ""
    copied: int = field(default=0, init=False)

    async def __call__(self) -> Manifest:
        """Returns the manifest of the whole backup. Raises BackupError."""
        self.name = backup_name(datetime.now(UTC))
        if self.name in await self.catalog.whole() or self.name in await self.catalog.interrupted():
            raise BackupError(f"another backup of this second is in {self.catalog.place.url}")
        if self.has_index:
            self.settings.check_index()
        created = time.time()
        async with AsyncExitStack() as stack:
            client, jetstream = await stack.enter_async_context(broker(self.settings))
            tables = await self._open(stack) if self.has_index else None
            self.said("holding changes of the index")
            async with index_paused(client, jetstream) as paused:
                pinned = await self._pin(tables, stack) if tables is not None else []
                streams = await self._streams(client, jetstream)
            self.said(f"changes of the index go on after {paused.seconds:.1f} s")
            manifest = Manifest(
                name=self.name,
                product=VERSION,
                broker=server_version(client),
                created_at=created,
                streams=tuple(streams),
                tables=tuple([await self._table(number, len(pinned), t) for number, t in enumerate(pinned, 1)]),
                paused_seconds=paused.seconds,
                finished_at=time.time(),
                has_index=self.has_index,
            )
        await self.catalog.finish(manifest)
        return manifest

    async def _open(self, stack: AsyncExitStack) -> Tables:
        options = self.settings.index_storage_options
        tables = await Tables.open(self.settings.uri, storage_options=options, read_only=True)
        stack.callback(tables.close)
        return tables

    async def _pin(self, tables: Tables, stack: AsyncExitStack) -> list[PinnedTable]:
        names = await tables.names()
        await release_pins(tables, names, backup_name(datetime.now(UTC) - ABANDONED))
        pinned: list[PinnedTable] = []
        for name in names:
            if (table := await pin_table(tables, name, self.name)) is not None:
                stack.push_async_callback(table.release)
                pinned.append(table)
        return pinned

    async def _streams(self, client: Client, jetstream: JetStreamContext) -> list[BackedUpStream]:
        present = [name for name in DURABLE if await _is_there(jetstream, name)]
        if not present:
            raise BackupError("the broker has no streams of Sluice: there is nothing to back up")
        slots = asyncio.Semaphore(AT_ONCE)

        async def copied(name: str) -> BackedUpStream:
            async with slots:
                return await self._stream(client, name)

        async with task_group() as tasks:
            running = [tasks.create_task(copied(name)) for name in present if name != JOB_EVENTS]
        last = [await self._stream(client, name) for name in present if name == JOB_EVENTS]
        return [*(task.result() for task in running), *last]

    async def _stream(self, client: Client, name: str) -> BackedUpStream:
        async with open_snapshot(client, name) as snapshot:
            file = await self.catalog.write(self.name, f"streams/{name}", self._counted(snapshot.pieces))
            self.said(f"stream {name}: {snapshot.state['messages']:,} messages, {_mb(file.size)}")
            return BackedUpStream(
                name=name,
                config=dict(snapshot.config),
                messages=snapshot.state["messages"],
                last_sequence=snapshot.state["last_seq"],
                file=file,
            )

    async def _table(self, number: int, total: int, pinned: PinnedTable) -> BackedUpTable:
        files: list[BackupFile] = []
        rows = await pinned.rows()
        async for pieces in pinned.files():
            path = f"index/{pinned.name}/{len(files):06}.arrow"
            files.append(await self.catalog.write(self.name, path, self._counted(pieces)))
        size = sum(file.size for file in files)
        self.said(f"table {number} of {total} of the index, {pinned.name}: {rows:,} passages, {_mb(size)}")
        return BackedUpTable(name=pinned.name, version=pinned.version, rows=rows, files=tuple(files))

    async def _counted(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.copied += len(piece)
            yield piece


async def create_backup(settings: BackupSettings, catalog: Catalog, *, has_index: bool = True) -> Manifest:
    """Make a backup, and say on standard error how far it is. Raises BackupError."""
    for tries_left in reversed(range(TRIES)):
        run = BackupRun(settings, catalog, has_index, say)
        try:
            return await run()
        except (TableGoneError, BackupError) as error:
            with suppress(BackupError):
                await catalog.discard(run.name)
            if isinstance(error, BackupError):
                raise
            if not tries_left:
                raise BackupError(str(error)) from error
            say(f"{error}; beginning again")
    raise AssertionError


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


async def _is_there(jetstream: JetStreamContext, stream: str) -> bool:
    try:
        await jetstream.stream_info(stream)
    except NotFoundError:
        return False
    return True


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
