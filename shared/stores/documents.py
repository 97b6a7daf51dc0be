"""Documents as records in a key-value bucket.

A document's record is written once its chunks are in the index. So a document with a record can be found, and its
content hash says whether a new upload of the same name is a change.
"""

from nats.js import JetStreamContext
from nats.js.errors import APIError, InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from shared.contracts.documents import Document
from shared.nats.kv import CHANGED, snapshot
from shared.nats.subjects import DOCUMENTS

__all__ = ["Documents"]


class Documents:
    """The document records of all tables."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def get(self, table: str, document: str) -> Document | None:
        bucket = await self._open()
        try:
            entry = await bucket.get(f"{table}.{document}")
        except (KeyNotFoundError, InvalidKeyError):
            return None
        return Document.model_validate_json(entry.value or b"")

    async def put(self, table: str, record: Document) -> Document | None:
        """Write a record, unless a later job has written one already. Returns the one of the two that does not hold
        now: the record from before, if there was one, or the given one."""
        bucket = await self._open()
        key = f"{table}.{record.id}"
        while True:
            try:
                entry = await bucket.get(key)
            except KeyNotFoundError:
                known, last = None, 0
            else:
                known, last = Document.model_validate_json(entry.value or b""), entry.revision or 0
                if known.revision > record.revision:
                    return record
            try:
                if last:
                    await bucket.update(key, record.model_dump_json().encode(), last=last)
                else:
                    await bucket.create(key, record.model_dump_json().encode())
            except KeyWrongLastSequenceError:
                continue
            return known

    async def delete(self, table: str, document: str, revision: int) -> Document | None:
        """Remove a record, unless a later job has written it. Returns what was removed."""
        bucket = await self._open()
        key = f"{table}.{document}"
        while True:
            try:
                entry = await bucket.get(key)
            except KeyNotFoundError:
                return None
            known = Document.model_validate_json(entry.value or b"")
            if known.revision > revision:
                return None
            try:
                await bucket.delete(key, last=entry.revision)
            except APIError as error:
                if error.err_code not in CHANGED:
                    raise
            else:
                return known

    async def forget(self, table: str) -> None:
        """Remove all records of a table."""
        bucket = await self._open()
        async for key, _ in snapshot(bucket, f"{table}.>"):
            await bucket.purge(key)

    async def list(self, table: str) -> list[Document]:
        """All records of a table by name."""
        bucket = await self._open()
        found = [Document.model_validate_json(value) async for _, value in snapshot(bucket, f"{table}.>")]
        return sorted(found, key=lambda document: document.name)

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(DOCUMENTS)
        return self._bucket
