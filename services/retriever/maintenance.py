"""Keeps the index fast while it changes: brings tables up to date once writes pause, or after enough of them."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from prometheus_client import Counter as Metric
from prometheus_client import Histogram

from services.retriever.store import Store
from shared.tasks import background

__all__ = ["Maintenance"]

log = logging.getLogger(__name__)

COMMITS = Metric("sluice_index_commits_total", "Commits to the index.")
UPKEEP = Histogram("sluice_index_upkeep_seconds", "Time that bringing one table up to date took.")


class Maintenance:
    """One background task per process; tables are worked on one after the other."""

    def __init__(self, store: Store, *, pause: float, commits: int) -> None:
        self._store = store
        self._pause = pause
        self._commits = commits
        self._changed: Counter[str] = Counter()
        self._news = asyncio.Event()

    def changed(self, table: str) -> None:
        """A table has been written to."""
        COMMITS.inc()
        self._changed[table] += 1
        self._news.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with background(self._work()):
            yield self

    async def _work(self) -> None:
        while True:
            await self._quiet()
            table, _ = self._changed.most_common(1)[0]
            del self._changed[table]
            try:
                with UPKEEP.time():
                    await self._store.maintain(table)
            except Exception:
                log.exception("bringing the table %s up to date failed; the next commit tries again", table)

    async def _quiet(self) -> None:
        """Wait until some table has changed and either enough commits have come or none comes any more."""
        while True:
            if not self._changed:
                self._news.clear()
                await self._news.wait()
            if self._changed.most_common(1)[0][1] >= self._commits:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(self._pause):
                    await self._news.wait()
            except TimeoutError:
                return
