"""When the retriever brings a table up to date. The pauses are never waited for: they last an hour, or no time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from services.retriever.stores.base import Store
from services.retriever.stores.maintenance_scheduler import MaintenanceScheduler

HOUR = 3600.0


class FakeStore:
    """A store that only notes which tables are brought up to date, and fails for some."""

    def __init__(self, fails: str = "") -> None:
        self.done: asyncio.Queue[str] = asyncio.Queue()
        self._fails = fails

    async def maintain(self, table: str) -> None:
        await self.done.put(table)
        if table == self._fails:
            raise OSError("no disk")


@asynccontextmanager
async def maintained(store: FakeStore, **limits: Any) -> AsyncIterator[MaintenanceScheduler]:
    limits = {"pause": HOUR, "commits": 1000, "passages": 1000} | limits
    async with asyncio.timeout(30), MaintenanceScheduler(cast("Store", store), **limits).running() as maintenance:
        yield maintenance


async def test_a_table_is_brought_up_to_date_after_so_many_commits() -> None:
    store = FakeStore()
    async with maintained(store, commits=3) as maintenance:
        for table in ("a", "b", "a", "b", "b"):
            maintenance.changed(table, 1)

        assert await store.done.get() == "b"
    assert store.done.empty()


async def test_a_table_is_brought_up_to_date_after_so_many_passages() -> None:
    store = FakeStore()
    async with maintained(store, passages=100) as maintenance:
        maintenance.changed("a", 99)
        maintenance.changed("b", 100)

        assert await store.done.get() == "b"
    assert store.done.empty()


async def test_tables_are_brought_up_to_date_once_no_commit_comes_any_more() -> None:
    store = FakeStore()
    async with maintained(store, pause=0) as maintenance:
        maintenance.changed("a", 1)
        maintenance.changed("b", 2)

        assert [await store.done.get(), await store.done.get()] == ["b", "a"]


async def test_upkeep_that_fails_is_tried_again_after_the_next_commit() -> None:
    store = FakeStore(fails="a")
    async with maintained(store, commits=1) as maintenance:
        for _ in range(2):
            maintenance.changed("a", 1)

            assert await store.done.get() == "a"
