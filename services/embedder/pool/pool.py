"""A bounded number of things that take long to open, shared by all that use them at once.

Who needs one that is not open waits in a line, first come, first served. For each that waits, the open one that was
used longest ago leaves: at once where nobody uses it, else when its last user is done. Who needs a leaving one again
waits in the line too, so nobody waits for ever however busy the others are.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Generic, Self, TypeVar

from services.embedder.pool.failures import Failures
from services.embedder.pool.metrics import EVICTIONS, LOAD_SECONDS, LOADED, LOADS
from shared.contracts.problems import Problem, ProblemType
from shared.reasons import told
from shared.tasks import task_group

__all__ = ["Pool"]

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CLOSED: Final = "The embedder stops before the model is loaded. Ask again."


class _Slot(Generic[K, V]):
    """One that is wanted: it waits in the line, is being opened, or is open."""

    def __init__(self, key: K) -> None:
        self.key = key
        self.ready: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.task: asyncio.Task[None] | None = None
        self.users = 0
        self.has_room = False
        self.leaving = False
        self.unused = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None


class Pool(Generic[K, V]):
    """At most `most` are open or being opened. `open_` opens one, and raises Problem; its block is the time in memory.

    For one event loop.
    """

    def __init__(
        self,
        open_: Callable[[K], AbstractAsyncContextManager[V]],
        *,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open_
        self._most = most
        self._room = asyncio.Semaphore(most)
        self._slots: OrderedDict[K, _Slot[K, V]] = OrderedDict()
        self._failures: Failures[K] = Failures(clock)
        self._tasks: asyncio.TaskGroup | None = None
        self._held = 0
        self._in_line = 0
        self._leaving = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Things can be used for as long as the block runs. All are closed at its end."""
        async with task_group() as tasks:
            self._tasks = tasks
            try:
                yield self
            finally:
                self._tasks = None
                for slot in list(self._slots.values()):
                    if slot.task is not None:
                        slot.task.cancel()
                self._slots.clear()

    @asynccontextmanager
    async def use(self, key: K) -> AsyncIterator[V]:
        """What the key names, opened where it is not; it stays open while the block runs.

        Raises the Problem for which it cannot be opened; for a while after a failure that of the failure, without
        another try.
        """
        self._failures.check(key)
        slot = self._slot(key)
        slot.users += 1
        try:
            yield await asyncio.shield(slot.ready)
        finally:
            slot.users -= 1
            if not slot.users:
                self._unused(slot)

    def is_open(self, key: K) -> bool:
        """Whether a use of it would not wait."""
        slot = self._slots.get(key)
        return slot is not None and slot.is_open

    def _slot(self, key: K) -> _Slot[K, V]:
        if self._tasks is None:
            raise Problem(ProblemType.MODEL_UNAVAILABLE, CLOSED)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot(key)
            slot.task = self._tasks.create_task(self._serve(slot))
        self._slots.move_to_end(key)
        return slot

    def _unused(self, slot: _Slot[K, V]) -> None:
        if slot.leaving:
            slot.unused.set()
        elif not slot.has_room and slot.task is not None:
            # Nobody waits for it any more, so it need not push another one out.
            self._forget(slot)
            slot.task.cancel()

    async def _serve(self, slot: _Slot[K, V]) -> None:
        """The life of one: in the line, being opened, open until it is to leave and nobody uses it."""
        try:
            await self._wait_for_room(slot)
            try:
                await self._hold(slot)
            finally:
                self._held -= 1
                self._leaving -= slot.leaving
                self._room.release()
        finally:
            self._forget(slot)
            if not slot.ready.done():
                slot.ready.set_exception(Problem(ProblemType.MODEL_UNAVAILABLE, CLOSED))

    async def _wait_for_room(self, slot: _Slot[K, V]) -> None:
        self._in_line += 1
        try:
            self._make_room()
            await self._room.acquire()
        finally:
            self._in_line -= 1
        slot.has_room = True
        self._held += 1

    async def _hold(self, slot: _Slot[K, V]) -> None:
        began = time.perf_counter()
        opened = False
        try:
            async with self._open(slot.key) as value:
                opened = True
                LOADS.labels("loaded").inc()
                LOAD_SECONDS.observe(time.perf_counter() - began)
                self._failures.forget(slot.key)
                slot.ready.set_result(value)
                with LOADED.track_inprogress():
                    self._make_room()
                    await slot.unused.wait()
        except Exception as error:
            if opened:
                log.exception("a model did not end well")
                return
            problem = error if isinstance(error, Problem) else _unexpected(error)
            LOADS.labels("failed").inc()
            log.warning("cannot load a model: %s", problem.detail, extra={"model": str(slot.key)})
            self._failures.add(slot.key, problem)
            self._forget(slot)
            slot.ready.set_exception(problem)

    def _make_room(self) -> None:
        """Have as many leave as wait in the line, those used longest ago first."""
        wanted = self._in_line - (self._most - self._held) - self._leaving
        for slot in [slot for slot in self._slots.values() if slot.is_open][: max(0, wanted)]:
            self._forget(slot)
            slot.leaving = True
            self._leaving += 1
            EVICTIONS.inc()
            if not slot.users:
                slot.unused.set()

    def _forget(self, slot: _Slot[K, V]) -> None:
        if self._slots.get(slot.key) is slot:
            del self._slots[slot.key]


def _unexpected(error: Exception) -> Problem:
    return Problem(ProblemType.MODEL_UNAVAILABLE, told(f"The model cannot be loaded: {type(error).__name__}: {error}"))
