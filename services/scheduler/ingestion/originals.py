"""The originals of documents: the bytes that each was made from, kept so that a collection can be indexed anew.

An original belongs to one change of one document: its name is `<collection id>/<document>/<revision>`, so that no two
jobs ever write or remove the same one. It stays for as long as a version of the collection has a record that names it.
The layout is that of NATS object stores, with all chunks of a collection below one subject.
"""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import ObjectInfo, ObjectMetaOptions
from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from shared.contracts.collections import Collection, Owner
from shared.contracts.problems import Problem, ProblemType
from shared.nats.objects import read_object
from shared.nats.subjects import ORIGINALS
from shared.stores.documents import Documents

__all__ = ["Originals"]

STREAM: Final = f"OBJ_{ORIGINALS}"
CHUNK: Final = 128 * 1024


class Originals:
    def __init__(self, jetstream: JetStreamContext, documents: Documents) -> None:
        self._js = jetstream
        self._documents = documents
        self._store: ObjectStore | None = None

    async def keep(self, collection: Collection, document: str, revision: int, data: bytes) -> str:
        """Store the bytes that a revision of a document was made from. Returns the original's name."""
        name = f"{collection.id}/{document}/{revision}"
        await self._js.purge_stream(STREAM, subject=_chunks(name))  # those of an earlier try
        pieces = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
        for piece in pieces:
            await self._js.publish(_chunks(name), piece)
        info = ObjectInfo(
            name=name,
            bucket=ORIGINALS,
            nuid=name.replace("/", "."),
            size=len(data),
            chunks=len(pieces),
            digest=f"SHA-256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()}",
            mtime=datetime.now(UTC).isoformat(),
            options=ObjectMetaOptions(max_chunk_size=CHUNK),
        )
        await self._js.publish(_entry(name), json.dumps(info.as_dict()).encode(), headers={"Nats-Rollup": "sub"})
        return name

    async def load(self, name: str, *, owner: Owner) -> bytes:
        """The bytes of an original. Raises Problem ORIGINALS_MISSING where the owner has none of this name."""
        if self._store is None:
            self._store = await self._js.object_store(ORIGINALS)
        try:
            if not _belongs(name, owner):
                raise ObjectNotFoundError  # noqa: TRY301
            return await read_object(self._store, name)
        except ObjectNotFoundError:
            raise Problem(ProblemType.ORIGINALS_MISSING, "Its original is not kept. Ingest it again.") from None

    async def release(self, collection: Collection, document: str, name: str) -> None:
        """Remove an original, unless a version of the collection still has the document as it was made from it."""
        for version in collection.versions:
            record = await self._documents.get(version.table, document, owner=collection.owner)
            if record is not None and record.original == name:
                return
        if _belongs(name, collection.owner):
            await self._remove(name)

    async def forget(self, owner: Owner, names: list[str]) -> None:
        """Remove all originals of a collection; `names` are those that are known."""
        for name in names:
            if _belongs(name, owner):
                await self._remove(name)
        await self._js.purge_stream(STREAM, subject=f"$O.{ORIGINALS}.C.{owner.collection}.>")

    async def _remove(self, name: str) -> None:
        await self._js.purge_stream(STREAM, subject=_entry(name))
        await self._js.purge_stream(STREAM, subject=_chunks(name))


def _belongs(name: str, owner: Owner) -> bool:
    return name.startswith(f"{owner.collection}/")


def _chunks(name: str) -> str:
    return f"$O.{ORIGINALS}.C.{name.replace('/', '.')}"


def _entry(name: str) -> str:
    return f"$O.{ORIGINALS}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
