"""When the next line of a batch may go on, where lines and interactive queries share what they are computed with.

Each stage gives the batch lane only the room that its interactive queries leave. That is enough where the stages have
machines of their own. Where all of them share a few CPUs, a line at work in any stage slows an interactive query in any
other, so lines wait here until no query is in flight.
"""

import asyncio
from typing import Final

__all__ = ["Pace"]

LONGEST_WAIT: Final = 1.0
"""Seconds after which a line goes on all the same, so that a batch never stands still."""


class Pace:
    """`begin` and `end` are called for each interactive query; a line is at work within `turn`."""

    def __init__(self, *, yields: bool) -> None:
        self._yields = yields
        self._queries = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._order = asyncio.Lock()

    def begin(self) -> None:
        self._queries += 1
        self._quiet.clear()

    def end(self) -> None:
        self._queries -= 1
        if not self._queries:
            self._quiet.set()

    async def turn(self) -> None:
        """Wait until the next line may go on; lines do so one by one."""
        if not self._yields:
            return
        async with self._order:
            if not self._quiet.is_set():
                try:
                    async with asyncio.timeout(LONGEST_WAIT):
                        await self._quiet.wait()
                except TimeoutError:
                    return
