"""Writes uploads to the object store as they arrive, without holding a whole one in memory.

The layout is that of NATS object stores: chunks on `$O.<bucket>.C.<nuid>`, then one entry on `$O.<bucket>.M.<name>`
that makes them an object. All chunks of a batch lie below one subject, so that one purge removes a failed batch.
The entries are written last: no reader ever sees an object of a batch that was not received whole.
"""

import base64
import hashlib
import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import anyio
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ObjectInfo, ObjectMetaOptions

from shared.nats.objects import owned_name
from shared.nats.subjects import UPLOADS

__all__ = ["ObjectBatch", "ObjectStage", "ObjectWriter", "StoredObject"]

log = logging.getLogger(__name__)

CHUNK: Final = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object's name in the bucket, and what its bytes were."""

    name: str
    sha256: str
    bytes: int


class ObjectStage:
    """Where uploads are written: into the bucket of this name."""

    def __init__(self, jetstream: JetStreamContext, bucket: str = UPLOADS) -> None:
        self._js = jetstream
        self._bucket = bucket

    @asynccontextmanager
    async def batch(self) -> AsyncIterator["ObjectBatch"]:
        """A batch of objects, which is removed if the block fails."""
        batch = ObjectBatch(self._js, self._bucket)
        try:
            yield batch
        except BaseException:
            with anyio.CancelScope(shield=True):
                await batch.discard()
            raise


class ObjectBatch:
    """Objects that become visible together, at `commit`. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext, bucket: str) -> None:
        self._js = jetstream
        self._bucket = bucket
        self._id = secrets.token_hex(16)
        self._written: list[ObjectInfo] = []
        self._committed: list[str] = []

    def begin(self, name: str | None = None, *, owner: str = "") -> "ObjectWriter":
        """A new object, under this unused name or a generated one of the owner's. One is written at a time."""
        nuid = f"{self._id}.{len(self._written)}"
        return ObjectWriter(self._js, self._bucket, self._written, nuid, name or owned_name(owner, nuid))

    async def commit(self) -> None:
        """Make all objects of the batch visible."""
        for info in self._written:
            subject = f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(str(info.name).encode()).decode()}"
            self._committed.append(subject)
            await self._js.publish(subject, json.dumps(info.as_dict()).encode(), headers={"Nats-Rollup": "sub"})

    async def discard(self) -> None:
        """Remove what was written. What the broker cannot remove now expires with the bucket's time to live."""
        try:
            for subject in (*self._committed, f"$O.{self._bucket}.C.{self._id}.>"):
                await self._js.purge_stream(f"OBJ_{self._bucket}", subject=subject)
        except (NatsError, TimeoutError) as error:
            log.warning("cannot remove an upload that failed: %r", error, extra={"upload": self._id})
        self._committed.clear()
        self._written.clear()


class ObjectWriter:
    """One object on its way into the bucket."""

    def __init__(
        self, jetstream: JetStreamContext, bucket: str, written: list[ObjectInfo], nuid: str, name: str
    ) -> None:
        self._js = jetstream
        self._bucket = bucket
        self._written = written
        self._nuid = nuid
        self._name = name
        self._pending = bytearray()
        self._hash = hashlib.sha256()
        self._chunks = 0
        self.size = 0

    async def write(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)
        self._pending += data
        while len(self._pending) >= CHUNK:
            await self._publish(bytes(self._pending[:CHUNK]))
            del self._pending[:CHUNK]

    async def close(self) -> StoredObject:
        if self._pending:
            await self._publish(bytes(self._pending))
            self._pending.clear()
        digest = base64.urlsafe_b64encode(self._hash.digest()).decode()
        info = ObjectInfo(
            name=self._name,
            bucket=self._bucket,
            nuid=self._nuid,
            size=self.size,
            chunks=self._chunks,
            digest=f"SHA-256={digest}",
            mtime=datetime.now(UTC).isoformat(),
            options=ObjectMetaOptions(max_chunk_size=CHUNK),
        )
        self._written.append(info)
        return StoredObject(name=self._name, sha256=self._hash.hexdigest(), bytes=self.size)

    async def _publish(self, chunk: bytes) -> None:
        await self._js.publish(f"$O.{self._bucket}.C.{self._nuid}", chunk)
        self._chunks += 1
