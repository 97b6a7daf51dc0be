"""How many documents and chunks a table has, without reading the records of all of them each time."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from nats.js import JetStreamContext

from shared.contracts.collections import Owner
from shared.contracts.documents import Document
from shared.contracts.principals import Principals, is_permitted
from shared.nats.subjects import DOCUMENTS
from shared.nats.view import BucketView, BucketViews

__all__ = ["Counts", "DocumentCounts"]

MOST: Final = 200_000
"""Documents that are remembered, of all tables together; some 200 bytes each."""


class _Kind(NamedTuple):
    """What documents have in common that the same callers see: whose they are, and their list."""

    tenant: str
    collection: str
    allowed: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: _Kind
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    documents: int
    chunks: int


class _Table(BucketView[_Entry]):
    """The documents of one table, counted by kind."""

    def __init__(self, jetstream: JetStreamContext, keys: str, read: Callable[[bytes], _Entry]) -> None:
        super().__init__(jetstream, DOCUMENTS, keys, read)
        self.documents: Counter[_Kind] = Counter()
        self.chunks: Counter[_Kind] = Counter()

    def clear(self) -> None:
        super().clear()
        self.documents.clear()
        self.chunks.clear()

    def _set(self, key: str, record: _Entry | None) -> None:
        if (known := self._records.get(key)) is not None:
            self._add(known, -1)
        if record is not None:
            self._add(record, 1)
        super()._set(key, record)

    def _add(self, entry: _Entry, times: int) -> None:
        self.documents[entry.kind] += times
        self.chunks[entry.kind] += times * entry.chunks
        if not self.documents[entry.kind]:
            del self.documents[entry.kind], self.chunks[entry.kind]


class DocumentCounts:
    """The first look at a table reads its records, and each later one what has changed. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext, *, most: int = MOST) -> None:
        self._tables = BucketViews(lambda keys: _Table(jetstream, keys, _read), most=most)

    async def of(self, table: str, *, owner: Owner, principals: Principals) -> Counts:
        """Of the owner's documents those that a reader may see."""
        found = await self._tables.look(f"{table}.>")
        seen = [
            kind
            for kind in found.documents
            if owner.admits(kind.tenant, kind.collection) and is_permitted(kind.allowed, principals)
        ]
        return Counts(
            documents=sum(found.documents[kind] for kind in seen), chunks=sum(found.chunks[kind] for kind in seen)
        )


def _read(data: bytes) -> _Entry:
    record = Document.model_validate_json(data)
    return _Entry(_Kind(record.tenant, record.collection, record.allowed), record.chunks)
