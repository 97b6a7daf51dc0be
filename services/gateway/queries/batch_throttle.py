"""When the next line of a batch, or copy of a query, may start, where these and interactive queries share processors.

Each stage gives the batch lane only the room that its interactive queries leave. That is enough where the stages have
machines of their own. Where all of them share a few CPUs, a line in work in any stage slows an interactive query in any
other. So lines wait here: as long as queries come, one line is in work at a time, and it starts when no query is in
flight.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

__all__ = ["BatchThrottle"]


class BatchThrottle:
    """`lines` may be in work at once while no queries come; without `yields` nothing ever waits.

    After `longest_wait` seconds one line starts all the same, so that a batch never stands still. After `calm`
    seconds without a query lines no longer expect the next one.
    """

    def __init__(self, *, yields: bool, lines: int = 2, longest_wait: float = 1.0, calm: float = 5.0) -> None:
        self._yields = yields
        self._most = lines
        self._longest_wait = longest_wait
        self.calm = calm
        self._lines = 0
        self._queries = 0
        self._last_query = -math.inf
        self._changed = asyncio.Event()
        self._order = asyncio.Lock()

    def most(self, copies: int) -> int:
        """Of so many copies, how many may wait or be in work at once. Where they wait it is few: each has a deadline,
        and behind many others it would not begin before that."""
        return min(copies, 2 * self._most) if self._yields else copies

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
        """Wait until the next line may start; it is in work within the block."""
        if self._yields:
            async with self._order:
                await self._wait_for_turn()
        self._lines += 1
        try:
            yield
        finally:
            self._lines -= 1
            self._changed.set()

    async def _wait_for_turn(self) -> None:
        began = time.monotonic()
        while (patience := self._patience(time.monotonic() - began)) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _patience(self, waited: float) -> float:
        """Seconds until a line may start if nothing changes; 0 for now."""
        if self._lines == 0:
            return max(0.0, self._longest_wait - waited) if self._queries else 0.0
        if self._lines >= self._most or self._queries:
            return self._longest_wait
        return max(0.0, self._last_query + self.calm - time.monotonic())
