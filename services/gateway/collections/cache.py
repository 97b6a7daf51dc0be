"""Collections by name, remembered for a moment, so that a query under load needs no look-up."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nats.errors import Error as NatsError

from shared.contracts.collections import Collection
from shared.contracts.problems import Problem
from shared.contracts.restrictions import Restrictions
from shared.stores.collection_index import CollectionIndex
from shared.stores.collections import Collections

__all__ = ["CollectionCache"]

CACHED_SECONDS: Final = 1.0
CACHED_COLLECTIONS: Final = 1000

ANSWER_TIMEOUT: Final = 1.0
AGAIN: Final = 0.1
"""Seconds for the broker to answer, and before it is asked again."""

T = TypeVar("T")


class CollectionCache:
    """Collections by name, at most a second old, so that a query costs no look-up under load.

    Where the broker does not answer, those known last stay in force.
    """

    def __init__(self, collections: Collections, index: CollectionIndex) -> None:
        self._collections = collections
        self._index = index
        self._known: OrderedDict[tuple[str, str], tuple[float, Collection]] = OrderedDict()
        self._restrictions: OrderedDict[str, tuple[float, Restrictions]] = OrderedDict()

    async def get(self, tenant: str, name: str, version: str | None = None, *, patience: float = 0.0) -> Collection:
        """A collection; with a version, as if that were the live one. What is not there is never remembered.

        A broker that does not answer is asked again for `patience` seconds. Raises Problem COLLECTION_NOT_FOUND,
        NOT_FOUND or VERSION_NOT_READY; after those seconds nats errors, TimeoutError.
        """
        give_up = time.monotonic() + patience
        if version is None:
            return await self._get(tenant, name, give_up)
        try:
            return (await self._get(tenant, name, give_up)).as_if(version)
        except Problem:  # unless it has just been made
            self.forget(tenant, name)
            return (await self._get(tenant, name, give_up)).as_if(version)

    async def _get(self, tenant: str, name: str, give_up: float) -> Collection:
        known = self._known.get((tenant, name))
        now = time.monotonic()
        if known and now - known[0] < CACHED_SECONDS:
            return known[1]
        record = await _ask(lambda: self._collections.get(tenant, name), known and known[1], give_up)
        known = self._known.get((tenant, name))
        if known is None or known[0] <= now:  # of two look-ups at once the one that began later knows more
            self._known[tenant, name] = now, record
        if len(self._known) > CACHED_COLLECTIONS:
            self._known.popitem(last=False)
        return record

    async def restrictions(self, tenant: str) -> Restrictions:
        """Which collections of a tenant have documents that not everybody may see, as it was at most a second ago."""
        known = self._restrictions.get(tenant)
        now = time.monotonic()
        if known and now - known[0] < CACHED_SECONDS:
            return known[1]
        found = await self._index.restrictions(tenant)
        self._restrictions[tenant] = now, found
        if len(self._restrictions) > CACHED_COLLECTIONS:
            self._restrictions.popitem(last=False)
        return found

    def forget(self, tenant: str, name: str) -> None:
        self._known.pop((tenant, name), None)


async def _ask(ask: Callable[[], Awaitable[T]], known: T | None, give_up: float) -> T:
    """The answer of the broker; what is `known` where it gives none. Raises what `ask` does."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await ask()
        except (NatsError, TimeoutError, OSError):
            if known is not None:
                return known
            if time.monotonic() > give_up:
                raise
        await asyncio.sleep(AGAIN)
