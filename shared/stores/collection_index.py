"""The names of a tenant's collections, in order, without reading all their records each time."""

import bisect
from collections.abc import Callable
from typing import Final

from nats.js import JetStreamContext

from shared.contracts.collections import Collection
from shared.contracts.restrictions import Restrictions
from shared.nats.subjects import COLLECTIONS
from shared.nats.view import BucketView, BucketViews

__all__ = ["CollectionIndex"]

MOST: Final = 100_000
"""Names that are remembered, of all tenants together."""


class _Names(BucketView[bool]):
    """Whether each collection is restricted, and their names in order."""

    def __init__(self, jetstream: JetStreamContext, keys: str) -> None:
        super().__init__(jetstream, COLLECTIONS, keys, _restricted)
        self.ordered: list[str] = []

    def _set(self, key: str, record: bool | None) -> None:
        name = key.partition(".")[2]
        place = bisect.bisect_left(self.ordered, name)
        is_known = place < len(self.ordered) and self.ordered[place] == name
        if record is None and is_known:
            del self.ordered[place]
        elif record is not None and not is_known:
            self.ordered.insert(place, name)
        super()._set(key, record)


class CollectionIndex:
    """The first look at a tenant reads its collections, and each later one what has changed. Methods raise nats
    errors."""

    def __init__(self, jetstream: JetStreamContext, *, most: int = MOST) -> None:
        self._tenants = BucketViews(lambda keys: _Names(jetstream, keys), most=most)

    async def page(
        self, tenant: str, *, after: str, limit: int | None, sees: Callable[[str], bool]
    ) -> tuple[list[str], bool]:
        """The first names after one that `sees` says yes to, and whether there are more; all where no limit is set."""
        ordered = (await self._tenants.look(f"{tenant}.>")).ordered
        found: list[str] = []
        for name in ordered[bisect.bisect_right(ordered, after) :]:
            if not sees(name):
                continue
            if len(found) == limit:
                return found, True
            found.append(name)
        return found, False

    async def restrictions(self, tenant: str) -> Restrictions:
        """Which collections of a tenant have documents that not everybody may see."""
        found = await self._tenants.look(f"{tenant}.>")
        return Restrictions.of({key.partition(".")[2]: restricted for key, restricted in found.records.items()})


def _restricted(data: bytes) -> bool:
    return Collection.model_validate_json(data).restricted
