"""Whether the Qdrant server answers: waited for at the start, and looked at from then on."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from services.retriever.stores.qdrant.connection import Connection, RefusedError
from shared.contracts.problems import Problem

__all__ = ["ServerWatch"]

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 300.0
"""For the server, before the start is given up."""
RETRY_SECONDS: Final = 1.0
WATCHED_SECONDS: Final = 5.0
"""Between two looks."""


class ServerWatch:
    """`obstacle` is why the server does not answer, empty while it does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watching: asyncio.Task[None] | None = None
        self.obstacle = ""

    async def start(self, waits: Callable[[str], None]) -> None:
        """Wait for the server. Raises RefusedError, and Problem INDEX_UNAVAILABLE after a while."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                await self._connection.check()
                break
            except Problem as problem:
                waits(problem.detail)
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(RETRY_SECONDS)
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCHED_SECONDS)
            try:
                await self._connection.check()
            except (Problem, RefusedError) as error:
                reason = error.detail if isinstance(error, Problem) else str(error)
                if not self.obstacle:
                    log.warning("the index cannot be reached: %s", reason)
                self.obstacle = reason
            else:
                if self.obstacle:
                    log.info("the index can be reached again")
                self.obstacle = ""
