"""Records that are written in the background, so that no request waits for it or fails by it.

What there is no room for, and what the broker does not take, is left out and counted: a record that is not kept is
worth less than an answer that comes late.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

import anyio
from nats.errors import Error as NatsError
from prometheus_client import Counter

from shared.tasks import task_group

__all__ = ["BackgroundWriter", "persistently"]

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES: Final = 3
PAUSE: Final = 1.0
"""Tries to write a record, and seconds between two of them."""

LAST_WRITES: Final = 2.0
"""Seconds that the end of the process gives to records that are not written yet."""


class BackgroundWriter(Generic[T]):
    """Records of this gateway on their way to the broker: `room` at most wait, and `writers` are written at once.

    `outcomes` counts what becomes of each, by its only label. `what` is what the log calls one.
    """

    def __init__(self, what: str, *, room: int, writers: int, outcomes: Counter) -> None:
        self._what = what
        self._writers = writers
        self._outcomes = outcomes
        self._waiting: asyncio.Queue[T] = asyncio.Queue(room)

    def put(self, record: T) -> bool:
        """Write a record soon; False if too many wait already."""
        try:
            self._waiting.put_nowait(record)
        except asyncio.QueueFull:
            self.refuse()
            return False
        return True

    def refuse(self) -> None:
        """Count a record for which there is no room."""
        self._outcomes.labels("no-room").inc()

    def fail(self) -> None:
        """Count a record that cannot be kept."""
        self._outcomes.labels("failed").inc()

    async def written(self) -> None:
        """Wait until what waits now is written, or has failed."""
        await self._waiting.join()

    @asynccontextmanager
    async def running(self, write: Callable[[T], Awaitable[str]]) -> AsyncIterator[None]:
        """Write for as long as the block runs, and a moment longer what waits at its end. `write` returns what became
        of a record."""
        async with task_group() as tasks:
            writers = [tasks.create_task(self._write(write)) for _ in range(self._writers)]
            try:
                yield
                with anyio.move_on_after(LAST_WRITES):
                    await self.written()
            finally:
                for writer in writers:
                    writer.cancel()

    async def _write(self, write: Callable[[T], Awaitable[str]]) -> None:
        while True:
            record = await self._waiting.get()
            try:
                self._outcomes.labels(await write(record)).inc()
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("%s is not kept: %s", self._what, str(error) or type(error).__name__)
                self.fail()
            except Exception:
                log.exception("%s is not kept", self._what)
                self.fail()
            finally:
                self._waiting.task_done()


async def persistently(store: Callable[[], Awaitable[object]]) -> None:
    """Call `store` until the broker takes it. Raises its error after the last try."""
    for left in reversed(range(TRIES)):
        try:
            await store()
        except (NatsError, TimeoutError, OSError):
            if not left:
                raise
            await asyncio.sleep(PAUSE)
        else:
            return
