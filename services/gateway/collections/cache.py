"""Collections by name, remembered for a moment, so that a query under load needs no look-up."""

import time
from collections import OrderedDict
from typing import Final

from shared.contracts.collections import Collection
from shared.contracts.problems import Problem
from shared.contracts.restrictions import Restrictions
from shared.stores.collection_index import CollectionIndex
from shared.stores.collections import Collections

__all__ = ["CollectionCache"]

CACHED_SECONDS: Final = 1.0
CACHED_COLLECTIONS: Final = 1000


class CollectionCache:
    """Collections by name, at most a second old, so that a query costs no look-up under load."""

    def __init__(self, collections: Collections, index: CollectionIndex) -> None:
        self._collections = collections
        self._index = index
        self._known: OrderedDict[tuple[str, str], tuple[float, Collection]] = OrderedDict()
        self._restrictions: OrderedDict[str, tuple[float, Restrictions]] = OrderedDict()

    async def get(self, tenant: str, name: str, version: str | None = None) -> Collection:
        """A collection; with a version, as if that were the live one. What is not there is never remembered.

        Raises Problem COLLECTION_NOT_FOUND, NOT_FOUND or VERSION_NOT_READY.
        """
        if version is None:
            return await self._get(tenant, name)
        try:
            return (await self._get(tenant, name)).as_if(version)
        except Problem:  # unless it has just been made
            self.forget(tenant, name)
            return (await self._get(tenant, name)).as_if(version)

    async def _get(self, tenant: str, name: str) -> Collection:
        known = self._known.get((tenant, name))
        now = time.monotonic()
        if known and now - known[0] < CACHED_SECONDS:
            return known[1]
        record = await self._collections.get(tenant, name)
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
        records = await self._index.restricted(tenant)
        found = Restrictions(
            restricted=frozenset(name for name, restricted in records.items() if restricted),
            open=frozenset(name for name, restricted in records.items() if not restricted),
        )
        self._restrictions[tenant] = now, found
        if len(self._restrictions) > CACHED_COLLECTIONS:
            self._restrictions.popitem(last=False)
        return found

    def forget(self, tenant: str, name: str) -> None:
        self._known.pop((tenant, name), None)
