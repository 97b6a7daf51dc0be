"""Collections that a gateway remembers for a moment."""

import asyncio
from typing import Any, cast

import pytest

from services.gateway.collections.cache import CollectionCache
from shared.contracts.collections import Collection
from shared.stores.collection_index import CollectionIndex
from shared.stores.collections import Collections

pytestmark = pytest.mark.anyio


class SlowCollections:
    """Gives the record of the moment at which it is asked, when the test says so."""

    def __init__(self) -> None:
        self.description = "old"
        self.asked = asyncio.Event()
        self.answers: list[asyncio.Event] = []

    async def get(self, _tenant: str, name: str) -> Collection:
        record = {"name": name, "table": "t1", "created_at": 0, "description": self.description}
        answer = asyncio.Event()
        self.answers.append(answer)
        self.asked.set()
        await answer.wait()
        return Collection.model_validate(record)


async def test_of_two_look_ups_at_once_the_later_one_is_remembered() -> None:
    collections = SlowCollections()
    cache = CollectionCache(cast("Collections", collections), cast("CollectionIndex", cast("Any", None)))

    async def look_up() -> asyncio.Task[Collection]:
        collections.asked.clear()
        task = asyncio.ensure_future(cache.get("acme", "docs"))
        await collections.asked.wait()
        return task

    first = await look_up()
    collections.description = "new"
    second = await look_up()
    collections.answers[1].set()
    assert (await second).description == "new"
    collections.answers[0].set()
    await first
    assert (await cache.get("acme", "docs")).description == "new"
