"""Lists of records in a bucket, the last written first, page by page."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, TypeVar

from fastapi import Query

from shared.nats.kv import Stored

__all__ = ["Before", "Limit", "page_of"]

Record = TypeVar("Record")

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Before = Annotated[
    int | None, Query(ge=1, le=2**53, description="The `next` of the page before; without it, the newest.")
]

MOST_LOOKED: Final = 2000
"""Records that one page looks through for those that it shows."""

PORTION: Final = 50


async def page_of(
    read: Callable[[int, int | None], Awaitable[Sequence[Stored[Record]]]],
    limit: int,
    before: int | None,
    admits: Callable[[Record], bool],
) -> tuple[list[Record], int | None]:
    """Up to `limit` records that are admitted, and before which one the next page begins, None at the end.

    `read` returns so many records before a revision, the newest first. A page that has looked through many records
    ends early.
    """
    found: list[Record] = []
    looked = 0
    while looked < MOST_LOOKED:
        portion = await read(PORTION, before)
        for stored in portion:
            if admits(stored.record):
                if len(found) == limit:
                    return found, before
                found.append(stored.record)
            before = stored.revision
        looked += len(portion)
        if len(portion) < PORTION:
            return found, None
    return found, before
