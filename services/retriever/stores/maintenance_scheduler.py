"""Keeps the index fast while it changes: brings tables up to date once writes pause, or after enough of them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

from prometheus_client import Counter, Histogram

from services.retriever.stores.base import Store
from shared.tasks import background

__all__ = ["MaintenanceScheduler"]

log = logging.getLogger(__name__)

COMMITS = Counter("sluice_index_commits_total", "Commits to the index.")
COMPACTION = Histogram("sluice_index_upkeep_seconds", "Time that bringing one table up to date took.")

LONGEST_REST: Final = 30.0
"""Seconds."""


@dataclass(slots=True)
class _Backlog:
    """What a table has got since it was brought up to date."""

    commits: int = 0
    passages: int = 0


class MaintenanceScheduler:
    """One background task per process; tables are worked on one after the other.

    A table's turn comes after so many `commits` or `passages`, or when no commit has come for `pause` seconds. Until
    then its new passages are searched one by one: a thousand make a search by words some ten milliseconds slower.
    Upkeep takes the longer the larger the table (1 s at 100,000 passages, 10 s at a million). It then rests for as long
    as it took, so that at least half of the time is the searches' alone.
    """

    def __init__(self, store: Store, *, pause: float, commits: int, passages: int) -> None:
        self._store = store
        self._pause = pause
        self._commits = commits
        self._passages = passages
        self._backlogs: dict[str, _Backlog] = {}
        self._news = asyncio.Event()

    def changed(self, table: str, passages: int) -> None:
        """A commit has written so many passages to a table, and may have removed others."""
        COMMITS.inc()
        backlog = self._backlogs.setdefault(table, _Backlog())
        backlog.commits += 1
        backlog.passages += passages
        self._news.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with background(self._work()):
            yield self

    async def _work(self) -> None:
        while True:
            table = await self._next()
            del self._backlogs[table]
            began = time.monotonic()
            try:
                with COMPACTION.time():
                    await self._store.maintain(table)
            except Exception:
                log.exception("bringing the table %s up to date failed; the next commit tries again", table)
            await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST))

    async def _next(self) -> str:
        """Wait until a table's turn has come."""
        while True:
            if not self._backlogs:
                self._news.clear()
                await self._news.wait()
            table = max(self._backlogs, key=self._urgency)
            if self._urgency(table) >= 1:
                return table
            self._news.clear()
            try:
                async with asyncio.timeout(self._pause):
                    await self._news.wait()
            except TimeoutError:
                return table

    def _urgency(self, table: str) -> float:
        backlog = self._backlogs[table]
        return max(backlog.commits / self._commits, backlog.passages / self._passages)
