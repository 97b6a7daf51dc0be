"""When the next line of a batch may go on, where lines and interactive queries share what they are computed with.

Each stage gives the batch lane only the room that its interactive queries leave. That is enough where the stages have
machines of their own. Where all of them share a few CPUs, a line at work in any stage slows an interactive query in any
other. So there lines wait here: as long as queries come, one line is at work at a time, and it begins when no query is
in flight.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

__all__ = ["BatchThrottle"]

LONGEST_WAIT: Final = 1.0
"""Seconds after which one line goes on all the same, so that a batch never stands still."""

CALM: Final = 5.0
"""Seconds without a query after which lines need not expect the next one."""


class BatchThrottle:
    """`lines` may be at work at once while no queries come; without `yields` nothing ever waits."""

    def __init__(self, *, yields: bool, lines: int = 2) -> None:
        self._yields = yields
        self._most = lines
        self._lines = 0
        self._queries = 0
        self._last_query = -math.inf
        self._changed = asyncio.Event()
        self._order = asyncio.Lock()

    @contextmanager
    def query(self) -> Iterator[None]:
        """An interactive query is in flight within the block."""
        self._queries += 1
        try:
            yield
        finally:
            self._queries -= 1
            self._last_query = time.monotonic()
            self._changed.set()

    @asynccontextmanager
    async def line(self) -> AsyncIterator[None]:
        """Wait until the next line may go on; it is at work within the block."""
        if self._yields:
            async with self._order:
                await self._turn()
        self._lines += 1
        try:
            yield
        finally:
            self._lines -= 1
            self._changed.set()

    async def _turn(self) -> None:
        began = time.monotonic()
        while (patience := self._patience(time.monotonic() - began)) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _patience(self, waited: float) -> float:
        """Seconds until it may be a line's turn though nothing changes; 0: it is now."""
        if self._lines == 0:
            return max(0.0, LONGEST_WAIT - waited) if self._queries else 0.0
        if self._lines >= self._most or self._queries:
            return LONGEST_WAIT
        return max(0.0, self._last_query + CALM - time.monotonic())
