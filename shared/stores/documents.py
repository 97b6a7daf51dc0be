"""Documents as records in a key-value bucket.

A document's record is written once its chunks are in the index. So a document with a record can be found, and its
content hash says whether a new upload of the same name is a change.
"""

from nats.js import JetStreamContext

from shared.contracts.documents import Document
from shared.nats.kv import Repository
from shared.nats.subjects import DOCUMENTS

__all__ = ["Documents"]


class Documents:
    """The document records of all tables."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, DOCUMENTS, Document.model_validate_json, noun="document")

    async def get(self, table: str, document: str) -> Document | None:
        return await self._records.get(f"{table}.{document}")

    async def put(self, table: str, record: Document) -> Document | None:
        """Write a record, unless a later job has written one already. Returns the one of the two that does not hold
        now: the record from before, if there was one, or the given one."""

        def newer(known: Document | None) -> Document:
            return known if known is not None and known.revision > record.revision else record

        before, after = await self._records.change(f"{table}.{record.id}", newer)
        return before if after is record else record

    async def delete(self, table: str, document: str, revision: int) -> Document | None:
        """Remove a record, unless a later job has written it. Returns what was removed."""

        def left(known: Document | None) -> Document | None:
            return known if known is not None and known.revision > revision else None

        before, after = await self._records.change(f"{table}.{document}", left)
        return before if after is None else None

    async def forget(self, table: str) -> None:
        """Remove all records of a table."""
        async for key, _ in self._records.entries(f"{table}.>"):
            await self._records.purge(key)

    async def list(self, table: str) -> list[Document]:
        """All records of a table by name."""
        return sorted(await self._records.list(f"{table}.>"), key=lambda document: document.name)
