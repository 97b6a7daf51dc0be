"""Collections and documents: what there is, as records in key-value buckets.

A collection's record names the table that holds its index. A document's record is written once its chunks are in the
index, so what has a record can be found; its content hash says whether a new upload of the same name is a change.
"""

import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError, InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from shared.contracts.collections import Collection
from shared.contracts.envelope import Scalar, Wire
from shared.contracts.problems import Problem, ProblemType
from shared.nats.topology import COLLECTIONS, DOCUMENTS

__all__ = [
    "CHANGED",
    "Collection",
    "Collections",
    "Document",
    "Documents",
    "check_document_name",
    "delivered",
    "document_id",
    "snapshot",
]

COLLECTION_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
LONGEST_DOCUMENT_NAME: Final = 512

CHANGED: Final = frozenset({10071, 10164})
"""The broker's refusals of a write that names an older revision than the last."""


class Document(Wire):
    """A document as it stands in one table. `revision` is the sequence of the job that wrote it; a copy in another
    version of the collection has the revision of what it is a copy of.

    `original` names the bytes that it was made from, "" where they are not kept. A document that came from a folder
    or a bucket has that as its `origin`, and a `stamp` that changes whenever the file there does.
    """

    id: str
    name: str
    sha256: str
    bytes: int
    chunks: int
    media_type: str = ""
    metadata: dict[str, Scalar] = {}
    indexed_at: float
    revision: int
    job: str
    fingerprint: str = ""
    original: str = ""
    origin: str = ""
    stamp: str = ""


def document_id(name: str) -> str:
    """A document is known by its name; the id is a form of it that fits into URLs and keys."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def check_document_name(name: str) -> str:
    """A document's name in its one form: `/` between parts. Raises Problem INVALID_NAME.

    Names are labels, never opened as paths; those that try to be paths out of a folder are refused all the same.
    """
    name = name.replace("\\", "/")
    parts = name.split("/")
    if not name.strip() or len(name.encode()) > LONGEST_DOCUMENT_NAME:
        reason = f"must have 1 to {LONGEST_DOCUMENT_NAME} bytes"
    elif any(part in ("", ".", "..") for part in parts):
        reason = "must be a relative path without empty, '.' or '..' parts"
    elif any(not c.isprintable() for c in name):
        reason = "must have printable characters only"
    else:
        return name
    raise Problem(ProblemType.INVALID_NAME, f"The document name {name[:80]!r} {reason}.")


class Collections:
    """The collections of all tenants."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def create(
        self, tenant: str, name: str, *, description: str = "", pipeline: str | None = None
    ) -> tuple[Collection, bool]:
        """Returns the collection and whether it is new. Raises Problem INVALID_NAME, or CONFLICT when it exists
        with other settings."""
        if not COLLECTION_NAME.fullmatch(name):
            raise Problem(
                ProblemType.INVALID_NAME,
                f"The collection name {name[:80]!r} must have 1 to 48 of a-z, 0-9, '-' and '_', "
                "and start with a letter or digit.",
            )
        record = Collection.model_validate(
            {
                "name": name,
                "tenant": tenant,
                "table": f"{name}-{secrets.token_hex(8)}",
                "description": description,
                "pipeline": pipeline,
                "created_at": time.time(),
            }
        )
        bucket = await self._open()
        try:
            await bucket.create(f"{tenant}.{name}", record.model_dump_json().encode())
        except KeyWrongLastSequenceError:
            existing = await self.get(tenant, name)
            if (existing.description, existing.pipeline) != (description, pipeline):
                raise Problem(
                    ProblemType.CONFLICT, f"The collection '{name}' exists already with other settings."
                ) from None
            return existing, False
        return record, True

    async def get(self, tenant: str, name: str) -> Collection:
        """Raises Problem COLLECTION_NOT_FOUND."""
        record, _ = await self._entry(tenant, name)
        return record

    async def update(self, known: Collection, change: Callable[[Collection], Collection]) -> Collection:
        """Change a collection's record, whoever else does at the same time. Returns it as it is then.

        `change` may be called several times, and may raise what it likes. Raises Problem COLLECTION_NOT_FOUND where
        the collection is not there any more, be there another one of its name.
        """
        bucket = await self._open()
        while True:
            record, revision = await self._entry(known.tenant, known.name)
            if record.id != known.id:
                raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{known.name}' was deleted.")
            new = change(record)
            if new == record:
                return record
            try:
                await bucket.update(f"{known.tenant}.{known.name}", new.model_dump_json().encode(), last=revision)
            except KeyWrongLastSequenceError:
                continue
            return new

    async def list(self, tenant: str) -> list[Collection]:
        """All collections by name."""
        bucket = await self._open()
        found = [Collection.model_validate_json(value) async for _, value in snapshot(bucket, f"{tenant}.>")]
        return sorted(found, key=lambda collection: collection.name)

    async def delete(self, tenant: str, name: str) -> Collection:
        """Forget a collection; its table is left to a `drop` job. Raises Problem COLLECTION_NOT_FOUND."""
        record = await self.get(tenant, name)
        await (await self._open()).delete(f"{tenant}.{name}")
        return record

    async def _entry(self, tenant: str, name: str) -> tuple[Collection, int]:
        missing = Problem(
            ProblemType.COLLECTION_NOT_FOUND,
            f"There is no collection '{name[:80]}'. Create it with POST /v1/collections, or by ingesting into it.",
        )
        if not COLLECTION_NAME.fullmatch(name):
            raise missing
        bucket = await self._open()
        try:
            entry = await bucket.get(f"{tenant}.{name}")
        except KeyNotFoundError:
            raise missing from None
        return Collection.model_validate_json(entry.value or b""), entry.revision or 0

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(COLLECTIONS)
        return self._bucket


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


async def snapshot(bucket: KeyValue, keys: str) -> AsyncIterator[tuple[str, bytes]]:
    """The entries of a bucket whose keys match, as they are now. Raises TimeoutError if the broker falls silent."""
    # The broker keeps a reading position for each; by itself the client would let it stay for five minutes.
    watcher = await bucket.watch(keys, inactive_threshold=5.0)
    try:
        while True:
            try:
                entry = await watcher.updates(timeout=10)  # type: ignore[no-untyped-call]
            except NatsTimeout:
                raise TimeoutError("the broker did not send the whole of a bucket") from None
            if entry is not None:
                if entry.operation is None:
                    yield entry.key, entry.value or b""
                if not entry.delta:
                    return
            elif not await delivered(watcher):
                # The client says so too where all entries are on their way to it, so the broker has to be asked.
                return
    finally:
        await watcher.stop()  # type: ignore[no-untyped-call]


async def delivered(watcher: KeyValue.KeyWatcher) -> int:
    """How many entries the broker has sent to a watcher."""
    assert watcher._sub is not None
    position = (await watcher._sub.consumer_info()).delivered
    return position.consumer_seq if position is not None else 0
