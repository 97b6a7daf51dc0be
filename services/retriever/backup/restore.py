"""Restores a backup into a broker and an index on which no service runs.

Nothing is changed before the whole backup has been read and found undamaged. From the first change to the last the
stream of jobs bears a mark. It has schedulers wait, and tells the next restore that this one did not end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from services.retriever.backup.catalog import Catalog
from services.retriever.backup.connection import broker
from services.retriever.backup.errors import BackupError
from services.retriever.backup.manifest import BackedUpStream, BackedUpTable, Manifest
from services.retriever.backup.requeue import requeue_unended
from services.retriever.backup.settings import BackupSettings
from services.retriever.backup.snapshots import restore_stream
from services.retriever.stores.lance.store import LanceStore
from services.retriever.stores.lance.tables import Tables
from services.retriever.stores.lance.transfer import import_table
from shared.contracts.indexing import summary_of
from shared.nats.client import server_version
from shared.nats.subjects import DEAD_LETTERS, EVERYTHING, JOB_EVENTS, JOBS, VOLATILE
from shared.nats.topology import RESTORING
from shared.service.service import PING
from shared.stores.collections import Collections
from shared.stores.documents import Documents

__all__ = ["RestoreRun", "Restored"]

ANSWERS: Final = 1.0
"""Seconds in which a service that runs answers a ping."""

CANARY: Final = "canary"
"""The one table of an index that holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore has done. `damaged` are collections whose records and index do not agree, by tenant and name."""

    manifest: Manifest
    collections: int
    documents: int
    jobs: int
    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestoreRun:
    """One restore. `replace` says that what is there may be removed. `said` is told how far it is."""

    settings: BackupSettings
    catalog: Catalog
    manifest: Manifest
    replace: bool
    said: Callable[[str], None]

    async def __call__(self) -> Restored:
        """Raises BackupError."""
        if self.manifest.has_index:
            self.settings.check_index()
        await self.catalog.verify(self.manifest, self.said)
        async with broker(self.settings) as (client, jetstream), AsyncExitStack() as stack:
            self._check_version(client)
            await self._check_stopped(client)
            tables = await self._open(stack) if self.manifest.has_index else None
            await self._check_empty(jetstream, tables)
            await self._mark(jetstream)
            await self._clear(jetstream, tables)
            await self._streams(client, jetstream)
            if tables is not None:
                await self._tables(tables)
            jobs = await requeue_unended(client, jetstream)
            restored = await self._compare(jetstream, jobs)
            await self._unmark(jetstream)
            return restored

    async def _open(self, stack: AsyncExitStack) -> Tables:
        tables = await Tables.open(self.settings.uri, storage_options=self.settings.index_storage_options)
        stack.callback(tables.close)
        return tables

    async def _open_store(self, stack: AsyncExitStack) -> LanceStore:
        store = await LanceStore.open(self.settings.uri, storage_options=self.settings.index_storage_options)
        stack.push_async_callback(store.close)
        return store

    def _check_version(self, client: Client) -> None:
        here, there = server_version(client), self.manifest.broker
        if _numbers(here) < _numbers(there):
            raise BackupError(f"the backup is from nats-server {there}, and the broker here is older: {here}")

    async def _check_stopped(self, client: Client) -> None:
        try:
            await client.request(PING, b"", timeout=ANSWERS)
        except (NoRespondersError, TimeoutError):
            return
        raise BackupError("services are running on this broker; stop all of them first, see docs/backup.md")

    async def _check_empty(self, jetstream: JetStreamContext, tables: Tables | None) -> None:
        configs = await _configs(jetstream)
        mark = _mark_of(configs.get(JOBS))
        if mark:
            self.said(f"a restore of {mark} did not end; what it left is replaced")
        if self.replace or mark:
            return
        for name in sorted(configs.keys() - VOLATILE):
            state = (await jetstream.stream_info(name)).state
            if state.messages:
                raise BackupError(
                    f"the broker is not empty: the stream {name} has {state.messages:,} messages. "
                    "With --replace the backup takes the place of everything that is there"
                )
        if tables is not None and (found := set(await tables.names()) - {CANARY}):
            raise BackupError(
                f"the index at {self.settings.uri} is not empty: it has {len(found):,} tables. "
                "With --replace the backup takes the place of everything that is there"
            )

    async def _mark(self, jetstream: JetStreamContext) -> None:
        config = (await _configs(jetstream)).get(JOBS)
        if config is None:
            # Where there is nothing at all, an interrupted restore leaves nothing that could be taken for whole.
            return
        await jetstream.update_stream(config, metadata={**(config.metadata or {}), RESTORING: self.manifest.name})

    async def _unmark(self, jetstream: JetStreamContext) -> None:
        config = (await jetstream.stream_info(JOBS)).config
        # The broker keeps members of its own there, and refuses none that are given back.
        metadata = {key: value for key, value in (config.metadata or {}).items() if key != RESTORING}
        await jetstream.update_stream(config, metadata=metadata)

    async def _clear(self, jetstream: JetStreamContext, tables: Tables | None) -> None:
        if tables is not None:
            for name in await tables.names():
                await tables.drop(name)
        # The stream with the mark goes last: an interruption before that leaves it, and one after that nothing.
        for name in sorted(await _configs(jetstream), key=lambda name: name == JOBS):
            await jetstream.delete_stream(name)

    async def _streams(self, client: Client, jetstream: JetStreamContext) -> None:
        # The stream with the mark comes first.
        ordered = sorted(self.manifest.streams, key=lambda stream: stream.name != JOBS)
        if ordered and ordered[0].name != JOBS:
            raise BackupError("the backup has no stream of jobs")
        for number, stream in enumerate(ordered, 1):
            self.said(f"stream {number} of {len(ordered)}: {stream.name}, {stream.messages:,} messages")
            pieces = self.catalog.read(self.manifest.name, stream.file)
            await restore_stream(client, stream.name, self._config(stream), pieces)
            state = (await jetstream.stream_info(stream.name)).state
            if state.last_seq < stream.last_sequence:
                raise BackupError(
                    f"the stream {stream.name} ends at {state.last_seq} and not at {stream.last_sequence}; "
                    "restore again, and look at the broker's log if it fails again"
                )

    def _config(self, stream: BackedUpStream) -> Mapping[str, Any]:
        config = {**stream.config, "num_replicas": self.settings.replicas}
        if stream.name in (JOB_EVENTS, DEAD_LETTERS):
            config["max_bytes"] = self.settings.history_bytes
        if stream.name == JOBS:
            config["metadata"] = {**(config.get("metadata") or {}), RESTORING: self.manifest.name}
        return config

    async def _tables(self, tables: Tables) -> None:
        wanted = [table for table in self.manifest.tables if table.name != CANARY]
        for number, table in enumerate(wanted, 1):
            self.said(f"table {number} of {len(wanted)} of the index: {table.name}, {table.rows:,} passages")
            rows = await import_table(tables, table.name, self._files(table))
            if rows != table.rows:
                raise BackupError(f"the table {table.name} has {rows:,} passages and not {table.rows:,}")

    async def _files(self, table: BackedUpTable) -> AsyncIterator[AsyncIterator[bytes]]:
        for file in table.files:
            yield self.catalog.read(self.manifest.name, file)

    async def _compare(self, jetstream: JetStreamContext, jobs: int) -> Restored:
        """Bring the tables' indices up to date, and compare what they hold with the records."""
        collections = await Collections(jetstream).every()
        records = Documents(jetstream)
        damaged: list[str] = []
        documents = 0
        async with AsyncExitStack() as stack:
            store = await self._open_store(stack) if self.manifest.has_index else None
            for number, collection in enumerate(collections, 1):
                self.said(f"comparing {number} of {len(collections)}: {collection.tenant}/{collection.name}")
                listed = await records.list(collection.table, owner=collection.owner)
                documents += len(listed)
                if store is None:
                    continue
                for table in {version.table for version in collection.versions}:
                    await store.maintain(table)
                found = await store.documents(collection.table, owner=collection.owner)
                named = {record.id: record.revision for record in listed if record.chunks}
                if await asyncio.to_thread(summary_of, found) != await asyncio.to_thread(summary_of, named):
                    damaged.append(f"{collection.tenant}/{collection.name}")
        return Restored(
            manifest=self.manifest,
            collections=len(collections),
            documents=documents,
            jobs=jobs,
            damaged=tuple(damaged),
        )


async def _configs(jetstream: JetStreamContext) -> dict[str, StreamConfig]:
    """Those of Sluice's streams that are there."""
    found: dict[str, StreamConfig] = {}
    for name in sorted(EVERYTHING):
        try:
            found[name] = (await jetstream.stream_info(name)).config
        except NotFoundError:
            continue
    return found


def _mark_of(config: StreamConfig | None) -> str:
    return (config.metadata or {}).get(RESTORING, "") if config is not None else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())
