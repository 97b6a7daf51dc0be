"""Writes one commit of a table: new points beside the old ones, and the old ones marked as ended by it.

Nothing of it counts before `finish`. A commit may be broken off anywhere: what it has written is never seen, and
`maintain` removes it.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from qdrant_client import models

from services.retriever.stores.base import Permissions
from services.retriever.stores.qdrant.connection import Connection
from services.retriever.stores.qdrant.layout import (
    ALLOWED_REVISION,
    CHUNKS,
    DOCUMENT_ID,
    ENDED_MS,
    FOREVER,
    READERS,
    REVISION,
    SINCE,
    TABLE,
    UNTIL,
    Layout,
)
from services.retriever.stores.qdrant.points import copied
from services.retriever.stores.qdrant.state import TableState
from services.retriever.stores.qdrant.tables import Tables, Turn
from services.retriever.stores.qdrant.view import EVERYBODY, View, equals, one_of

__all__ = ["Commit", "Stored", "pages"]

T = TypeVar("T")

UPSERTED: Final = 100
"""Points in one request."""
NAMED: Final = 256
"""Documents that one filter names."""
PAGE: Final = 1_000
"""Points without vectors in one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a table holds of a document. Without chunks it is deleted."""

    revision: int = -1
    chunks: int = 0
    allowed: Sequence[str] | None = None
    allowed_revision: int = -1


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit of a turn, of the table called `name`."""

    connection: Connection
    layout: Layout
    tables: Tables
    name: str
    turn: Turn

    @property
    def number(self) -> int:
        return self.turn.lease.commit

    @property
    def table(self) -> str:
        return self.turn.state.id

    @property
    def passages(self) -> str:
        return self.layout.passages(self.turn.state.dimension)

    @property
    def view(self) -> View:
        """What counts before this commit."""
        return View(self.turn.state)

    async def stored(self, ids: Sequence[str]) -> dict[str, Stored]:
        """What the table holds of documents; nothing of those that it does not know."""
        found: dict[str, Stored] = {}
        fields = [DOCUMENT_ID, REVISION, CHUNKS, READERS, ALLOWED_REVISION]
        for some in _parts(ids, NAMED):
            async for record in pages(self.connection, self.layout.documents, self.view.of_documents(some), fields):
                payload = record.payload or {}
                readers: list[str] = payload[READERS]
                found[payload[DOCUMENT_ID]] = Stored(
                    revision=payload[REVISION],
                    chunks=payload[CHUNKS],
                    allowed=None if EVERYBODY in readers else tuple(readers),
                    allowed_revision=payload[ALLOWED_REVISION],
                )
        return found

    async def write(self, collection: str, points: Sequence[models.PointStruct]) -> None:
        for some in _parts(points, UPSERTED):
            await self.tables.beat(self.name, self.turn)
            await self.connection.call(lambda client, some=some: client.upsert(collection, some, wait=True))  # type: ignore[misc]

    async def end(self, ids: Sequence[str]) -> None:
        """End what counts of documents until now."""
        state, ended_ms = self.turn.state, time.time_ns() // 1_000_000
        goes_on = models.FieldCondition(key=UNTIL, range=models.Range(gte=FOREVER))
        given_up = models.FieldCondition(key=UNTIL, match=models.MatchAny(any=list(state.given_up)))
        # Where a commit that was given up has ended a point, it goes on; where another has, it has ended.
        ends: models.Condition = models.Filter(should=[goes_on, given_up]) if state.given_up else goes_on
        before = models.FieldCondition(key=SINCE, range=models.Range(lt=self.number))
        for some in _parts(ids, NAMED):
            ended = models.Filter(must=[equals(TABLE, self.table), one_of(DOCUMENT_ID, list(some)), before, ends])
            for collection in (self.layout.documents, self.passages):
                await self.tables.beat(self.name, self.turn)
                await self.connection.call(
                    lambda client, collection=collection, ended=ended: client.set_payload(  # type: ignore[misc]
                        collection, {UNTIL: self.number, ENDED_MS: ended_ms}, points=ended, wait=True
                    )
                )

    async def permit(self, lists: Sequence[Permissions], stored: Mapping[str, Stored]) -> None:
        """Write documents again with other lists, where these are later. Of several for one document the latest one
        counts."""
        latest: dict[str, Permissions] = {}
        for given in lists:
            known = stored.get(given.document_id)
            other = latest.get(given.document_id)
            if known is None or not known.chunks or known.allowed_revision >= given.revision:
                continue
            if other is None or other.revision <= given.revision:
                latest[given.document_id] = given

        def again(record: models.Record) -> models.PointStruct:
            given = latest[(record.payload or {})[DOCUMENT_ID]]
            return copied(record, self.number, given.allowed, given.revision)

        for some in _parts(list(latest), NAMED):
            where = self.view.of_documents(some)
            for collection in (self.layout.documents, self.passages):
                copies: list[models.PointStruct] = []
                async for record in pages(self.connection, collection, where, None, vectors=True, size=UPSERTED):
                    copies.append(again(record))
                    if len(copies) == UPSERTED:
                        await self.write(collection, copies)
                        copies = []
                await self.write(collection, copies)
        await self.end(list(latest))

    async def finish(self, change: Callable[[TableState], TableState] = lambda state: state) -> None:
        """Have all of it count, and change the table's state besides."""
        await self.tables.commit(self.name, self.turn, change)


async def pages(
    connection: Connection,
    collection: str,
    where: models.Filter,
    fields: list[str] | None,
    *,
    vectors: bool = False,
    size: int = PAGE,
) -> AsyncIterator[models.Record]:
    """All points that match, with these fields of their payload; None is all of it."""
    offset: models.ExtendedPointId | None = None
    while True:
        records, offset = await connection.call(
            lambda client, offset=offset: client.scroll(  # type: ignore[misc]
                collection,
                scroll_filter=where,
                limit=size,
                offset=offset,
                with_payload=fields if fields is not None else True,
                with_vectors=vectors,
            )
        )
        for record in records:
            yield record
        if offset is None:
            return


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
