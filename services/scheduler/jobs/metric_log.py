"""Keeps the metrics of one try at a job as the job's artifact, after those of the tries before it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
from nats.errors import Error as NatsError

from shared.contracts.metrics import METRICS_FILE, MetricHistory
from shared.contracts.problems import Problem
from shared.tasks import background

__all__ = ["MetricLog"]

log = logging.getLogger(__name__)

WRITE_EVERY: Final = 5.0
"""Seconds between two writes of the file."""

LAST_WRITE: Final = 3.0
"""Seconds for the last write of a try that was broken off."""

Read = Callable[[], Awaitable[bytes]]
"""The file as it was left. Raises Problem where there is none."""

Write = Callable[[str, bytes], Awaitable[object]]


class MetricLog:
    """What a try logs is in the file some seconds later, and at its end."""

    def __init__(self, read: Read, write: Write) -> None:
        self._read = read
        self._write = write
        self._own = MetricHistory()
        self._earlier: MetricHistory | None = None
        self._changed = False
        self._lock = asyncio.Lock()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Raises ValueError as `MetricHistory.add` does."""
        self._own.add(step, time.time(), values)
        self._changed = True

    @asynccontextmanager
    async def writing(self, *, resumed: bool, interval: float = WRITE_EVERY) -> AsyncIterator[None]:
        """Write while the block runs, and at its end, however it ends. `resumed` says that a try went before."""
        try:
            async with background(self._keep_writing(interval)):
                yield
        except BaseException:
            await self._write_at_last(resumed=resumed)
            raise
        await self.flush(resumed=resumed)

    async def _write_at_last(self, *, resumed: bool) -> None:
        """The reason for the end matters more than the file."""
        with anyio.move_on_after(LAST_WRITE, shield=True):
            try:
                await self.flush(resumed=resumed)
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("cannot write the metrics of a job: %r", error)

    async def _keep_writing(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                await self.flush()
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("cannot write the metrics of a job, will try again: %r", error)

    async def flush(self, *, resumed: bool = False) -> None:
        """Write now what is not in the file yet. Raises nats errors."""
        async with self._lock:
            if not self._changed and not (resumed and self._earlier is None):
                return
            if self._earlier is None:
                self._earlier = await self._left()
            whole = self._own.after(self._earlier)
            self._changed, changed = False, self._changed
            try:
                if whole:
                    await self._write(METRICS_FILE, await asyncio.to_thread(whole.encode))
            except BaseException:
                self._changed = changed
                raise

    async def _left(self) -> MetricHistory:
        try:
            return MetricHistory.decode(await self._read())
        except Problem:
            return MetricHistory()
