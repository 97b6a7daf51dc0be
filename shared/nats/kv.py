"""Records in the broker's key-value buckets."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError, InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from shared.contracts.problems import Problem, ProblemType
from shared.nats.client import delivered, end_watching
from shared.nats.errors import CHANGED
from shared.nats.paging import last_messages
from shared.nats.subjects import bucket_stream

__all__ = ["TRIES", "Repository", "Stored", "is_removal", "snapshot"]

Record = TypeVar("Record")

TRIES: Final = 50
"""Changes of one record by others that one change outlives."""


PAUSE: Final = 0.01
"""Seconds between two of them."""

KEY: Final = re.compile(r"[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*")
"""What the broker allows as a key."""


OPERATIONS: Final = ("KV-Operation", "Nats-Marker-Reason")
"""Headers of a message that removes a record."""


@dataclass(frozen=True, slots=True)
class Stored(Generic[Record]):
    """A record and the number of its last write, which no other write in the bucket has."""

    record: Record
    revision: int


def _encode_model(record: Any) -> bytes:
    encoded: str = record.model_dump_json()
    return encoded.encode()


class Repository(Generic[Record]):
    """The records of one bucket. Any number of processes may use it at once. Methods raise nats errors.

    The bucket is opened at its first use. `noun` is what a problem calls a record. A key that the broker does not
    allow has no record.
    """

    def __init__(
        self,
        jetstream: JetStreamContext,
        bucket: str,
        decode: Callable[[bytes], Record],
        *,
        encode: Callable[[Record], bytes] = _encode_model,
        noun: str = "record",
    ) -> None:
        self._js = jetstream
        self._name = bucket
        self._decode = decode
        self._encode = encode
        self._noun = noun
        self._bucket: KeyValue | None = None

    async def get(self, key: str) -> Record | None:
        """None where there is no record."""
        stored = await self.read(key)
        return None if stored is None else stored.record

    async def read(self, key: str) -> Stored[Record] | None:
        """A record with its revision; None where there is no record."""
        bucket = await self._open()
        try:
            entry = await bucket.get(key)
        except (KeyNotFoundError, InvalidKeyError):
            return None
        return Stored(self._decode(entry.value or b""), entry.revision or 0)

    async def put(self, key: str, record: Record, *, revision: int | None = None) -> int | None:
        """Write a record and return its new revision.

        With a `revision` it is written only if that is the last one, 0 meaning that there is no record. Otherwise
        returns None.
        """
        bucket, value = await self._open(), self._encode(record)
        try:
            if revision is None:
                return await bucket.put(key, value)
            if revision == 0:
                return await bucket.create(key, value)
            return await bucket.update(key, value, last=revision)
        except (KeyWrongLastSequenceError, KeyNotFoundError):
            # Not found is a record of somebody else's on which the nodes of a cluster have not agreed yet.
            return None

    async def create(self, key: str, record: Record) -> tuple[Record, bool]:
        """Write a record where there is none. Returns the one that is there, and whether it is new. Raises Problem
        CONFLICT after many changes by others."""
        for _ in range(TRIES):
            if await self.put(key, record, revision=0) is not None:
                return record, True
            if (known := await self.get(key)) is not None:
                return known, False
            await asyncio.sleep(PAUSE)
        raise self.conflict(key)

    async def change(
        self, key: str, change: Callable[[Record | None], Record | None]
    ) -> tuple[Record | None, Record | None]:
        """Compare and set: replace a record by what `change` makes of it. Returns the record before and after.

        None stands for no record, before and after. `change` may be called several times, and may raise what it likes.
        Raises Problem CONFLICT after many changes by others.
        """

        def changed(old: Record | None, note: bytes) -> tuple[Record | None, bytes]:
            new = change(old)
            return new, note if new is None and old is None else b""

        return await self.change_noting(key, changed)

    async def change_noting(
        self, key: str, change: Callable[[Record | None, bytes], tuple[Record | None, bytes]]
    ) -> tuple[Record | None, Record | None]:
        """As `change`, with a note that stays where a record is removed, or was none: `change` gets it and gives the
        next one. With a record there is no note.
        """
        for _ in range(TRIES):
            old, note, revision = await self._last(key)
            new, left = change(old, note)
            if new == old and (new is not None or left == note):
                return old, new
            if new is None:
                done = await self._remove(key, left, revision)
            else:
                done = await self._replace(key, new, revision)
            if done:
                return old, new
            # The node of the broker that was asked may be behind the one that wrote.
            await asyncio.sleep(PAUSE)
        raise self.conflict(key)

    async def note(self, key: str) -> bytes:
        """What `change_noting` has left where there is no record."""
        return (await self._last(key))[1]

    async def update(self, key: str, change: Callable[[Record], Record]) -> Record | None:
        """Change a record that is there, as `change` does. Returns it as it is then; None where there is no record."""

        def changed(old: Record | None) -> Record | None:
            return None if old is None else change(old)

        return (await self.change(key, changed))[1]

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        """Remove a record; with a `revision` only if that is the last one. Returns whether that was so."""
        try:
            await (await self._open()).delete(key, last=revision)
        except APIError as error:
            if error.err_code not in CHANGED:
                raise
            return False
        return True

    async def purge(self, key: str) -> None:
        """Remove a record and its history. A record that is not there is not an error."""
        await (await self._open()).purge(key)

    async def list(self, keys: str = ">") -> "list[Record]":
        """All records whose keys match, in no order. Raises TimeoutError as `snapshot` does."""
        return [self._decode(value) async for _, value in snapshot(await self._open(), keys)]

    async def newest(self, keys: str, limit: int, *, before: int | None = None) -> Sequence[Stored[Record]]:
        """The records whose keys match, the last written first: of all, or of those written before the revision
        `before`. Raises TimeoutError if the broker falls silent.
        """
        messages = await last_messages(
            self._js,
            bucket_stream(self._name),
            f"$KV.{self._name}.{keys}",
            limit,
            before=before,
            # What was removed leaves traces, thousands in a row where a reader was erased.
            wanted=lambda message: not is_removal(message.headers),
        )
        return [Stored(self._decode(message.data), message.metadata.sequence.stream) for message in messages]

    async def revision(self, keys: str) -> int:
        """The number of the last write or removal among the keys that match; 0 where there was none."""
        try:
            message = await self._js.get_msg(bucket_stream(self._name), subject=f"$KV.{self._name}.{keys}")
        except NotFoundError:
            return 0
        return message.seq or 0

    async def entries(self, keys: str = ">") -> AsyncGenerator[tuple[str, bytes], None]:
        """The keys that match with their values, not decoded. Raises TimeoutError as `snapshot` does."""
        async with aclosing(snapshot(await self._open(), keys)) as entries:
            async for entry in entries:
                yield entry

    def conflict(self, key: str) -> Problem:
        """CONFLICT: others change this record all the time."""
        name = key.rpartition(".")[2]
        return Problem(ProblemType.CONFLICT, f"The {self._noun} '{name}' is being changed by others. Try again.")

    async def _last(self, key: str) -> tuple[Record | None, bytes, int]:
        """A record, the note on its removal, and the number of the last write, 0 where there was none."""
        try:
            entry = await (await self._open()).get(key)
        except InvalidKeyError:
            return None, b"", 0
        except KeyNotFoundError as error:
            removal = error.entry
            return (None, b"", 0) if removal is None else (None, removal.value or b"", removal.revision or 0)
        return self._decode(entry.value or b""), b"", entry.revision or 0

    async def _replace(self, key: str, record: Record, last: int) -> bool:
        """Write a record, also over a removal, if the last write is this one. Returns whether that was so."""
        try:
            await (await self._open()).update(key, self._encode(record), last=last)
        except KeyWrongLastSequenceError:
            return False
        return True

    async def _remove(self, key: str, note: bytes, last: int) -> bool:
        """Remove a record, or none, and leave a note, if the last write is this one. Returns whether that was so."""
        if not KEY.fullmatch(key):
            return True  # it never has a record
        headers = {"KV-Operation": "DEL", "Nats-Expected-Last-Subject-Sequence": str(last)}
        try:
            await self._js.publish(f"$KV.{self._name}.{key}", note, headers=headers)
        except APIError as error:
            if error.err_code not in CHANGED:
                raise
            return False
        return True

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(self._name)
        return self._bucket


def is_removal(headers: Mapping[str, str] | None) -> bool:
    """Whether a message with these headers removes a record."""
    return any(name in (headers or {}) for name in OPERATIONS)


async def snapshot(bucket: KeyValue, keys: str) -> AsyncGenerator[tuple[str, bytes], None]:
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
        await end_watching(watcher)
