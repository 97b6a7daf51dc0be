"""The documents of a table in order and counted, without reading the records of all of them each time."""

import asyncio
import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Final, NamedTuple

from nats.js import JetStreamContext

from shared.contracts.collections import Owner
from shared.contracts.documents import Document
from shared.contracts.principals import Principals, is_permitted
from shared.nats.subjects import DOCUMENTS
from shared.nats.view import BucketChanges, BucketView, BucketViews
from shared.tasks import for_each

__all__ = ["Counts", "DocumentIndex"]

MOST: Final = 200_000
"""Documents that are remembered, of all tables together; some 400 bytes each."""

FEW: Final = 500
"""Changes that are put into the order one by one; with more of them all is sorted anew."""

LOOKS_AT_ONCE: Final = 16

TURN: Final = 5_000
"""Documents that are looked at before other work of the process gets its turn; some milliseconds."""


class _Kind(NamedTuple):
    """What documents have in common that the same callers see: whose they are, and their list."""

    tenant: str
    collection: str
    allowed: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    name: str
    kind: _Kind
    chunks: int
    warned: bool


_by_name: Final = attrgetter("name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    documents: int
    chunks: int


class _Table(BucketView[_Entry]):
    """The documents of one table, by name and counted by kind."""

    def __init__(self, jetstream: JetStreamContext, keys: str, read: Callable[[bytes], _Entry]) -> None:
        super().__init__(jetstream, DOCUMENTS, keys, read)
        self.documents: Counter[_Kind] = Counter()
        self.chunks: Counter[_Kind] = Counter()
        self._ordered: list[_Entry] = []
        self._changed: dict[str, _Entry | None] = {}

    def ordered(self) -> list[_Entry]:
        """By name, as of the last look."""
        if len(self._changed) > FEW:
            self._ordered = sorted(self.records.values(), key=_by_name)
        else:
            for name, entry in self._changed.items():
                place = bisect.bisect_left(self._ordered, name, key=_by_name)
                is_known = place < len(self._ordered) and self._ordered[place].name == name
                self._ordered[place : place + is_known] = [] if entry is None else [entry]
        self._changed.clear()
        return self._ordered

    def _set(self, key: str, record: _Entry | None) -> None:
        if (known := self._records.get(key)) is not None:
            self._add(known, -1)
            self._changed[known.name] = None
        if record is not None:
            self._add(record, 1)
            self._changed[record.name] = record
        super()._set(key, record)

    def _add(self, entry: _Entry, times: int) -> None:
        self.documents[entry.kind] += times
        self.chunks[entry.kind] += times * entry.chunks
        if not self.documents[entry.kind]:
            del self.documents[entry.kind], self.chunks[entry.kind]


class DocumentIndex:
    """The first look at a table reads its records, and each later one what has changed. Methods raise nats errors.

    They see of the owner's documents those that a reader may see.
    """

    def __init__(self, jetstream: JetStreamContext, *, most: int = MOST) -> None:
        self._tables = BucketViews(lambda keys: _Table(jetstream, keys, _read), most=most)
        self._changes = BucketChanges(jetstream, DOCUMENTS)
        self._fresh: set[str] = set()
        """Tables that have not changed between their last looks and the last one at the changes."""
        self._looking = asyncio.Lock()

    async def counts(self, table: str, *, owner: Owner, principals: Principals) -> Counts:
        return _counted(await self._tables.look(f"{table}.>"), owner, principals)

    async def counts_each(self, tables: Sequence[tuple[str, Owner]], *, principals: Principals) -> list[Counts]:
        """As `counts`, of several tables with their owners. Where few have changed, it costs a request or two, however
        many they are."""
        if not tables:
            return []
        async with self._looking:
            await self._refresh([table for table, _ in tables])
        found = []
        for table, owner in tables:
            known = self._tables.get(f"{table}.>")
            if known is None:  # it made room for others
                known = await self._tables.look(f"{table}.>")
            found.append(_counted(known, owner, principals))
        return found

    async def _refresh(self, tables: Sequence[str]) -> None:
        """Look at those of the tables that may have changed."""
        changed = await self._changes.changed()
        self._fresh -= self._fresh if changed is None else {key.partition(".")[0] for key in changed}

        async def look(table: str) -> None:
            await self._tables.look(f"{table}.>")
            self._fresh.add(table)

        stale = [one for one in tables if one not in self._fresh or self._tables.get(f"{one}.>") is None]
        await for_each(stale, look, at_once=LOOKS_AT_ONCE)
        if len(self._fresh) > MOST:
            self._fresh.clear()

    async def page(
        self,
        table: str,
        *,
        owner: Owner,
        principals: Principals,
        prefix: str = "",
        text: str = "",
        warned: bool = False,
        after: str = "",
        limit: int,
    ) -> tuple[list[str], str | None]:
        """The ids of the first documents after a name, by name, and the last of their names if there are more.

        Their names begin with `prefix` and have `text` in them, in any case; with `warned` they have warnings.
        """
        found = await self._tables.look(f"{table}.>")
        ordered, seen, text = found.ordered(), _seen(found, owner, principals), text.casefold()
        place = bisect.bisect_left(ordered, prefix, key=_by_name)
        if after:
            place = max(place, bisect.bisect_right(ordered, after, key=_by_name))
        page: list[_Entry] = []
        # A copy: while others have their turn, another look may change the order.
        for number, entry in enumerate(ordered[place:], 1):
            if not entry.name.startswith(prefix):
                break
            if number % TURN == 0:
                await asyncio.sleep(0)
            if entry.kind not in seen or (warned and not entry.warned) or (text and text not in entry.name.casefold()):
                continue
            if len(page) == limit:
                return [each.id for each in page], page[-1].name
            page.append(entry)
        return [each.id for each in page], None


def _counted(table: _Table, owner: Owner, principals: Principals) -> Counts:
    seen = _seen(table, owner, principals)
    return Counts(
        documents=sum(table.documents[kind] for kind in seen), chunks=sum(table.chunks[kind] for kind in seen)
    )


def _seen(table: _Table, owner: Owner, principals: Principals) -> set[_Kind]:
    return {
        kind
        for kind in table.documents
        if owner.admits(kind.tenant, kind.collection) and is_permitted(kind.allowed, principals)
    }


@lru_cache(maxsize=1_000)
def _kind(tenant: str, collection: str, allowed: tuple[str, ...] | None) -> _Kind:
    """One object for all documents of a kind, as there are few kinds and many documents."""
    return _Kind(tenant, collection, allowed)


def _read(data: bytes) -> _Entry:
    record = Document.model_validate_json(data)
    kind = _kind(record.tenant, record.collection, record.allowed)
    return _Entry(record.id, record.name, kind, record.chunks, bool(record.warnings))
