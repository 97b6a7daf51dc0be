"""The collections that are held in memory: loaded when first searched, following their tables, within a bound."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from lancedb.table import AsyncTable

from services.retriever.serving.cache import SnapshotCache
from services.retriever.serving.languages import SpokenLanguages
from services.retriever.serving.merging import is_due, merge_large
from services.retriever.serving.metrics import BYTES, COLLECTIONS, FOLLOWING, LOADS, PASSAGES
from services.retriever.serving.segment import Segment
from services.retriever.serving.snapshot import Origin, Snapshot
from services.retriever.serving.table_reader import follow_table, load_table, origin_of
from services.retriever.serving.views import Views
from services.retriever.stores.lance.rows import ALIVE
from shared.tasks import TaskSet

__all__ = ["Held", "ServingIndex"]

log = logging.getLogger(__name__)

BYTES_OF_PASSAGE: Final = 3_000
"""Without its vector, as long as it is not known."""

LOADED_AT_ONCE: Final = 2
"""Collections that are loaded at the same time."""

RECONSIDERED_SECONDS: Final = 300.0
"""After which a collection that was too large is looked at again."""

CACHED_PASSAGES: Final = 2_000
"""Of a smaller collection no files are kept: its table is read as fast."""

SAVED_SECONDS: Final = 60.0
"""Between two times that the files of a collection that changes are written."""

UNREADABLE: Final = (RuntimeError, OSError, ValueError)
"""What Lance raises where files of a table are gone, because another process dropped it."""


@dataclass(eq=False)
class Held:
    """A collection in memory. `checked` is when its table was last looked at, of the monotonic clock."""

    snapshot: Snapshot
    checked: float
    views: Views = field(default_factory=Views)
    following: asyncio.Lock = field(default_factory=asyncio.Lock)
    working: bool = False
    """Whether it is merged or saved."""
    saved: float = field(default_factory=time.monotonic)
    saved_version: int = -1

    @property
    def languages(self) -> SpokenLanguages:
        """Those of all passages."""
        return self.views.languages


class ServingIndex:
    """At most `most_bytes` of collections, the ones that were searched last; for one event loop.

    `open_table` opens a handle of its own on the newest version of a table, None where it is absent. A collection that
    is searched is at most `freshness` seconds behind its table.
    """

    def __init__(
        self,
        open_table: Callable[[str], Awaitable[AsyncTable | None]],
        *,
        most_bytes: int,
        freshness: float,
        patience: float,
        cache: SnapshotCache | None = None,
    ) -> None:
        self._open_table = open_table
        self._most_bytes = most_bytes
        self._freshness = freshness
        self._patience = patience
        self._cache = cache
        self._saving = asyncio.Lock()
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._too_large: dict[str, float] = {}
        self._slots = asyncio.Semaphore(LOADED_AT_ONCE)
        self._tasks = TaskSet()

    @property
    def nbytes(self) -> int:
        return sum(held.snapshot.nbytes for held in self._held.values())

    async def get(self, name: str) -> Held | None:
        """The collection, up to date; None where it is not in memory, or not yet: then the disk answers.

        The first search of a collection has it loaded, and waits for that for a moment.
        """
        held = self._held.get(name)
        if held is None:
            await self._await_load(name)
            return self._held.get(name)
        self._held.move_to_end(name)
        age = time.monotonic() - held.checked
        if age > self._freshness:
            await self._follow(name, held)
            return self._held.get(name)
        if age > self._freshness / 2 and not held.following.locked():
            self._tasks.start(self._follow(name, held))
        return held

    async def follow(self, name: str) -> None:
        """Bring the collection up to date with what has been committed until now, if it is in memory."""
        if loading := self._loading.get(name):
            await asyncio.wait([loading])
        if held := self._held.get(name):
            await self._follow(name, held)

    def forget(self, name: str) -> None:
        """Let go of a collection that is dropped."""
        if loading := self._loading.pop(name, None):
            loading.cancel()
        self._held.pop(name, None)
        self._too_large.pop(name, None)
        self._count()

    async def close(self) -> None:
        """Write what has changed to the cache, and let go of all."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        await self._tasks.ended()
        for name, held in self._held.items():
            await self._save(name, held)
        self._held.clear()
        if self._cache:
            self._cache.close()

    async def _await_load(self, name: str) -> None:
        if time.monotonic() < self._too_large.get(name, 0.0):
            return
        if name not in self._loading:
            self._loading[name] = task = asyncio.create_task(self._load(name))
            task.add_done_callback(partial(self._loaded, name))
        await asyncio.wait([self._loading[name]], timeout=self._patience)

    def _loaded(self, name: str, task: asyncio.Task[None]) -> None:
        if self._loading.get(name) is task:
            del self._loading[name]

    async def _load(self, name: str) -> None:
        async with self._slots:
            try:
                began = time.monotonic()
                table = await self._open_table(name)
                if table is None:
                    return
                origin = await origin_of(table)
                if not await self._fits(name, table, origin):
                    return
                snapshot = await self._read(name, table, origin)
            except UNREADABLE as error:
                log.warning("the collection %s was not loaded; the next search tries again: %s", name, error)
                return
            held = self._held[name] = Held(snapshot, began)
            self._make_room(name)
        held.working = True
        self._tasks.start(self._tend(name, held))

    async def _read(self, name: str, table: AsyncTable, origin: Origin) -> Snapshot:
        """From the cache, with what was committed since, or all from the table."""
        kept = await asyncio.to_thread(self._cache.load, name, origin) if self._cache else None
        if kept is not None and (snapshot := await follow_table(table, origin, kept)) is not None:
            LOADS.labels("cache").inc()
            return snapshot
        LOADS.labels("table").inc()
        return await load_table(table, origin)

    async def _fits(self, name: str, table: AsyncTable, origin: Origin) -> bool:
        expected: int = await table.count_rows(ALIVE) * (BYTES_OF_PASSAGE + 2 * origin.dimension)
        if expected > self._most_bytes:
            self._leave_on_disk(name, expected)
        return expected <= self._most_bytes

    async def _follow(self, name: str, held: Held) -> None:
        """Until what is committed now is in the snapshot. A collection that cannot be followed is loaded anew."""
        asked = time.monotonic()
        async with held.following:
            if held.checked >= asked or self._held.get(name) is not held:
                return
            began = time.monotonic()
            snapshot = await self._newest(name, held.snapshot)
            if snapshot is None:
                if self._held.get(name) is held:
                    del self._held[name]
                return
            held.snapshot, held.checked = snapshot, began
        self._make_room(name)
        if not held.working and (is_due(held.snapshot) or time.monotonic() > held.saved + SAVED_SECONDS):
            held.working = True
            self._tasks.start(self._tend(name, held))

    async def _newest(self, name: str, snapshot: Snapshot) -> Snapshot | None:
        try:
            table = await self._open_table(name)
            if table is None:
                return None
            origin = await origin_of(table)
            if origin.table != snapshot.origin.table or origin.version < snapshot.origin.version:
                return None
            if origin.version == snapshot.origin.version:
                return snapshot
            with FOLLOWING.time():
                return await follow_table(table, origin, snapshot)
        except UNREADABLE as error:
            log.warning("the table %s cannot be followed and is loaded anew: %s", name, error)
            return None

    async def _tend(self, name: str, held: Held) -> None:
        """Merge what is large, then write what has changed to the cache."""
        try:
            if is_due(held.snapshot):
                merge = await asyncio.to_thread(merge_large, held.snapshot)
                async with held.following:
                    held.snapshot = await asyncio.to_thread(merge.apply, held.snapshot)
            await self._save(name, held)
        finally:
            held.working = False

    async def _save(self, name: str, held: Held) -> None:
        snapshot = held.snapshot
        held.saved = time.monotonic()
        if self._cache is None or snapshot.passages < CACHED_PASSAGES or snapshot.origin.version == held.saved_version:
            return
        async with self._saving:
            if self._held.get(name) is not held:
                return
            try:
                mapped = await asyncio.to_thread(self._cache.save, name, snapshot)
            except OSError as error:
                log.warning("the files of the collection %s were not written: %s", name, error)
                return
        held.saved_version = snapshot.origin.version
        async with held.following:
            held.snapshot = _with_files(held.snapshot, mapped)

    def _make_room(self, name: str) -> None:
        """Drop the collections that were searched longest ago; this one is the last to go."""
        if name in self._held:
            self._held.move_to_end(name)
        while self._held and (held := self.nbytes) > self._most_bytes:
            dropped, _ = self._held.popitem(last=False)
            if dropped == name:
                self._leave_on_disk(name, held)
        self._count()

    def _count(self) -> None:
        BYTES.set(self.nbytes)
        COLLECTIONS.set(len(self._held))
        PASSAGES.set(sum(held.snapshot.passages for held in self._held.values()))

    def _leave_on_disk(self, name: str, size: int) -> None:
        self._too_large[name] = time.monotonic() + RECONSIDERED_SECONDS
        log.warning(
            "the collection %s needs some %s MiB of memory and is searched on disk; SLUICE_INDEX_MEMORY_MB allows %s",
            name,
            f"{size >> 20:,}",
            f"{self._most_bytes >> 20:,}",
        )


def _with_files(snapshot: Snapshot, mapped: Mapping[int, Segment]) -> Snapshot:
    """With segments that are mapped from files in place of the same ones in memory, so that these can go."""
    return replace(snapshot, segments=tuple(mapped.get(id(segment), segment) for segment in snapshot.segments))
