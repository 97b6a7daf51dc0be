"""Documents as records in a key-value bucket.

A document's record is written once its chunks are in the index. So a document with a record can be found, and its
content hash says whether a new upload of the same name is a change. A record says whose it is: its key names a table
alone, and a table's name proves nothing.

Where a record is removed, the revision of the removal stays: an earlier job may come to its record only afterwards.
"""

from collections.abc import Iterable
from contextlib import aclosing
from functools import partial
from typing import Final

from nats.js import JetStreamContext

from shared.contracts.collections import Owner
from shared.contracts.documents import Document
from shared.contracts.principals import Principals, is_permitted
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import Repository
from shared.nats.subjects import DOCUMENTS
from shared.tasks import for_each

__all__ = ["Documents"]

LOOKED_AT: Final = 1_000
READ_AT_ONCE: Final = 32


class Documents:
    """The document records of all tables. For an owner, those of others are not there, and cannot be written."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, DOCUMENTS, Document.model_validate_json, noun="document")

    async def get(self, table: str, document: str, *, owner: Owner) -> Document | None:
        found = await self._records.get(f"{table}.{document}")
        return found if found is not None and _belongs(found, owner) else None

    async def get_each(self, table: str, documents: Iterable[str], *, owner: Owner) -> list[Document]:
        """The records of several documents, in their order; those that are not there are left out."""
        read = partial(self.get, table, owner=owner)
        return [found for found in await for_each(documents, read, at_once=READ_AT_ONCE) if found is not None]

    async def put(self, table: str, record: Document, *, owner: Owner) -> Document | None:
        """Write a record as the owner's, unless a later job has written or removed one already. Returns the one of the
        two that does not hold now: the record from before, if there was one, or the given one. Of the lists of both,
        the later one holds.

        Raises Problem CONFLICT where there is a record of somebody else's.
        """
        owned = record.model_copy(update={"tenant": owner.tenant, "collection": owner.collection})
        is_ours = False

        def newer(known: Document | None, removed: bytes) -> tuple[Document | None, bytes]:
            nonlocal is_ours
            _check(known, owner)
            is_ours = (_removal(removed) if known is None else known.revision) <= record.revision
            if known is None:
                return (owned, b"") if is_ours else (None, removed)
            if is_ours:
                return owned.permitting(known.allowed, known.allowed_revision), b""
            return known.permitting(record.allowed, record.allowed_revision), b""

        before, _ = await self._records.change_noting(f"{table}.{record.id}", newer)
        return before if is_ours else record

    async def permit(
        self, table: str, document: str, allowed: tuple[str, ...] | None, revision: int, *, owner: Owner
    ) -> Document | None:
        """Note who may see a document, unless a later job has. Returns the record, None where there is none."""

        def permitting(known: Document | None) -> Document | None:
            _check(known, owner)
            return None if known is None else known.permitting(allowed, revision)

        _, after = await self._records.change(f"{table}.{document}", permitting)
        return after

    async def delete(self, table: str, document: str, revision: int, *, owner: Owner) -> Document | None:
        """Remove a record, unless a later job has written it. Returns what was removed. Raises as `put` does."""

        def left(known: Document | None, removed: bytes) -> tuple[Document | None, bytes]:
            _check(known, owner)
            if known is not None and known.revision > revision:
                return known, b""
            return None, str(max(revision, _removal(removed))).encode()

        before, after = await self._records.change_noting(f"{table}.{document}", left)
        return before if after is None else None

    async def note_removal(self, table: str, document: str, revision: int, *, owner: Owner) -> bool:
        """Note that a document without a record is removed, for earlier jobs that bring it only afterwards. Returns
        whether it has none; a record stays as it is. Raises as `put` does."""

        def noted(known: Document | None, removed: bytes) -> tuple[Document | None, bytes]:
            _check(known, owner)
            return known, b"" if known is not None else str(max(revision, _removal(removed))).encode()

        before, _ = await self._records.change_noting(f"{table}.{document}", noted)
        return before is None

    async def removals(self, table: str, documents: Iterable[str]) -> dict[str, int]:
        """Of documents that were removed, or were to be when they had no record: the latest revision that did so."""

        async def read(document: str) -> tuple[str, bytes]:
            return document, await self._records.note(f"{table}.{document}")

        found = await for_each(documents, read, at_once=READ_AT_ONCE)
        return {document: _removal(note) for document, note in found if note}

    async def forget(self, table: str, *, owner: Owner) -> None:
        """Remove all records of a table that are the owner's."""
        async for key, value in self._records.entries(f"{table}.>"):
            if _belongs(Document.model_validate_json(value), owner):
                await self._records.purge(key)

    async def any(self, table: str, *, owner: Owner, principals: Principals) -> bool:
        """Whether one of the first LOOKED_AT records of a table is of a document that a reader may see."""
        looked_at = 0
        async with aclosing(self._records.entries(f"{table}.>")) as entries:
            async for _, value in entries:
                record = Document.model_validate_json(value)
                if _belongs(record, owner) and is_permitted(record.allowed, principals):
                    return True
                looked_at += 1
                if looked_at == LOOKED_AT:
                    break
        return False

    async def revision(self, table: str) -> int:
        """A number that grows with every change of a table's records; 0 where there was none."""
        return await self._records.revision(f"{table}.>")

    async def list(self, table: str, *, owner: Owner) -> list[Document]:
        """All records of a table by name."""
        found = [record for record in await self._records.list(f"{table}.>") if _belongs(record, owner)]
        return sorted(found, key=lambda document: document.name)


def _removal(note: bytes) -> int:
    """The revision of the job that has removed a record; an older release notes none."""
    return int(note or -1)


def _belongs(record: Document, owner: Owner) -> bool:
    return owner.admits(record.tenant, record.collection)


def _check(known: Document | None, owner: Owner) -> None:
    if known is not None and not _belongs(known, owner):
        raise Problem(ProblemType.CONFLICT, "The index holds a document of another collection under this name.")
