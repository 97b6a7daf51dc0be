"""The collections that are held in memory: loaded when first searched, following their tables, within a bound."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from lancedb.table import AsyncTable

from services.retriever.serving.languages import SpokenLanguages
from services.retriever.serving.merging import is_due, merge_large
from services.retriever.serving.snapshot import Snapshot
from services.retriever.serving.table_reader import follow_table, load_table, origin_of
from services.retriever.stores.lance.rows import ALIVE
from shared.tasks import TaskSet

__all__ = ["Held", "ServingIndex"]

log = logging.getLogger(__name__)

BYTES_OF_PASSAGE: Final = 3_000
"""Without its vector, as long as it is not known."""

LOADS: Final = 2
"""Collections that are loaded at the same time."""

RECONSIDERED_SECONDS: Final = 300.0
"""After which a collection that was too large is looked at again."""

UNREADABLE: Final = (RuntimeError, OSError, ValueError)
"""What Lance raises where files of a table are gone, because another process dropped it."""


@dataclass(eq=False)
class Held:
    """A collection in memory. `checked` is when its table was last looked at, of the monotonic clock."""

    snapshot: Snapshot
    checked: float
    languages: SpokenLanguages = field(default_factory=SpokenLanguages)
    following: asyncio.Lock = field(default_factory=asyncio.Lock)
    merging: bool = False


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
    ) -> None:
        self._open_table = open_table
        self._most_bytes = most_bytes
        self._freshness = freshness
        self._patience = patience
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._too_large: dict[str, float] = {}
        self._slots = asyncio.Semaphore(LOADS)
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

    async def close(self) -> None:
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        await self._tasks.ended()
        self._held.clear()

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
                if table is None or not await self._fits(name, table):
                    return
                origin = await origin_of(table)
                snapshot = await load_table(table, origin)
            except UNREADABLE as error:
                log.warning("the collection %s was not loaded; the next search tries again: %s", name, error)
                return
            self._held[name] = Held(snapshot, began)
            self._make_room(name)

    async def _fits(self, name: str, table: AsyncTable) -> bool:
        origin = await origin_of(table)
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
        if not held.merging and is_due(held.snapshot):
            held.merging = True
            self._tasks.start(self._merge(held))

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
            return await follow_table(table, origin, snapshot)
        except UNREADABLE as error:
            log.warning("the table %s cannot be followed and is loaded anew: %s", name, error)
            return None

    async def _merge(self, held: Held) -> None:
        try:
            merge = await asyncio.to_thread(merge_large, held.snapshot)
            async with held.following:
                held.snapshot = await asyncio.to_thread(merge.apply, held.snapshot)
        finally:
            held.merging = False

    def _make_room(self, name: str) -> None:
        """Drop the collections that were searched longest ago; this one is the last to go."""
        if name in self._held:
            self._held.move_to_end(name)
        while self._held and (held := self.nbytes) > self._most_bytes:
            dropped, _ = self._held.popitem(last=False)
            if dropped == name:
                self._leave_on_disk(name, held)

    def _leave_on_disk(self, name: str, size: int) -> None:
        self._too_large[name] = time.monotonic() + RECONSIDERED_SECONDS
        log.warning(
            "the collection %s needs some %s MiB of memory and is searched on disk; SLUICE_INDEX_MEMORY_MB allows %s",
            name,
            f"{size >> 20:,}",
            f"{self._most_bytes >> 20:,}",
        )
