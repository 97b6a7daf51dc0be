"""What is in a key-value bucket, kept between looks: a look reads what has changed since the last one, and no more.

A look asks the broker for the next write after the last one that it knows. Where there is none, it costs one request,
however many records there are. So it is as fresh as reading them all, in any number of processes.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from shared.nats.client import end_reading
from shared.nats.errors import NO_MESSAGE
from shared.nats.kv import is_removal
from shared.nats.subjects import bucket_stream
from shared.tasks import TaskSet

__all__ = ["BucketChanges", "BucketView", "BucketViews"]

log = logging.getLogger(__name__)

Record = TypeVar("Record")
View = TypeVar("View", bound="BucketView[Any]")

STEPS: Final = 16
"""Changes that are read one by one; more of them are read as a stream."""

SILENCE: Final = 10.0
"""Seconds for the broker to deliver the next record."""

READ_AGAIN: Final = 3600.0
"""Seconds after which all is read anew, whatever became of the bucket: it may have been restored from a backup, and
records may have expired."""

LEFT_BEHIND: Final = 5.0

MOST_CHANGES: Final = 1_000
"""Changes between two looks that are told one by one."""


class BucketView(Generic[Record]):
    """The records whose keys match, each as what `read` makes of its bytes. Use it from one event loop.

    Records that expire stay in it until they are written again.
    """

    def __init__(self, jetstream: JetStreamContext, bucket: str, keys: str, read: Callable[[bytes], Record]) -> None:
        self._js = jetstream
        self._stream = bucket_stream(bucket)
        self._prefix = f"$KV.{bucket}."
        self._subject = f"{self._prefix}{keys}"
        self._read = read
        self._records: dict[str, Record] = {}
        self._lock = asyncio.Lock()
        self.revision = 0
        """The number of the last write that it knows; 0 where there was none."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> Mapping[str, Record]:
        """As of the last look. It changes with the next one."""
        return MappingProxyType(self._records)

    async def look(self) -> None:
        """Take in what has changed. Raises nats errors, and TimeoutError if the broker falls silent."""
        async with self._lock:
            # So a first look at few records, or none, needs no reading position of its own on the broker.
            for _ in range(STEPS):
                if not await self._step():
                    return
            await self._follow()

    def _set(self, key: str, record: Record | None) -> None:
        """Note a record, or that there is none."""
        if record is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record

    def _note(self, subject: str, revision: int, headers: Mapping[str, str] | None, data: bytes | None) -> None:
        self._set(subject.removeprefix(self._prefix), None if is_removal(headers) else self._read(data or b""))
        self.revision = revision

    async def _step(self) -> bool:
        """Take in the next change; returns whether there is one."""
        try:
            message = await self._js.get_msg(self._stream, self.revision + 1, self._subject, next=True)
        except NotFoundError as error:
            if not self.revision and error.err_code != NO_MESSAGE:
                raise  # there is no bucket, which is not the same as an empty one
            return False
        self._note(str(message.subject), int(message.seq or 0), message.headers, message.data)
        return True

    async def _follow(self) -> None:
        """Take in all changes."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.revision + 1,
            inactive_threshold=LEFT_BEHIND,
        )
        messages = await self._js.subscribe(self._subject, stream=self._stream, ordered_consumer=True, config=config)
        try:
            info = await messages.consumer_info()
            # Some may be on their way already.
            left = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
            while left > 0:
                message = await messages.next_msg(timeout=SILENCE)
                left = message.metadata.num_pending
                self._note(message.subject, message.metadata.sequence.stream, message.headers, message.data)
        finally:
            await end_reading(messages)


class BucketChanges(BucketView[None]):
    """Which keys of a bucket were written to, between looks."""

    def __init__(self, jetstream: JetStreamContext, bucket: str, *, read_again: float = READ_AGAIN) -> None:
        super().__init__(jetstream, bucket, ">", lambda _: None)
        self._read_again = read_again
        self._began = -math.inf
        self._changed: dict[str, None] = {}

    async def changed(self) -> set[str] | None:
        """The keys that were written to, or removed, since the last look; None where that is not known: at the first
        look, after very many changes, and every now and then. One look at a time. Raises as `look` does."""
        if time.monotonic() - self._began > self._read_again:
            self.revision = await self._last()
            self._began = time.monotonic()
            return None
        if await self._step():
            if (last := await self._last()) - self.revision >= MOST_CHANGES:
                self._changed.clear()
                self.revision = last
                return None
            await self.look()
        changed, self._changed = set(self._changed), {}
        return changed

    def _set(self, key: str, record: None) -> None:
        self._changed[key] = record

    async def _last(self) -> int:
        """The number of the last write."""
        try:
            return int((await self._js.get_msg(self._stream, subject=self._subject)).seq or 0)
        except NotFoundError as error:
            if error.err_code != NO_MESSAGE:
                raise
            return 0


class BucketViews(Generic[View]):
    """Views by their keys: those that were used last, of at most so many records together, or the last one alone.
    A view without records counts as one record. A look costs the same however many views there are.

    Every `read_again` seconds another view takes the place of one in use, once it has read all.
    """

    def __init__(self, make: Callable[[str], View], *, most: int, read_again: float = READ_AGAIN) -> None:
        self._make = make
        self._most = most
        self._read_again = read_again
        self._views: OrderedDict[str, View] = OrderedDict()
        self._began: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        """Records of each view as of its last look."""
        self._records = 0
        self._renewals = TaskSet()

    async def look(self, keys: str) -> View:
        """A view after a look at the broker. Raises as `BucketView.look` does."""
        if (view := self._views.get(keys)) is None:
            view = self._views[keys] = self._make(keys)
            self._began[keys] = time.monotonic()
        elif time.monotonic() - self._began[keys] > self._read_again:
            self._began[keys] = time.monotonic()
            self._renewals.start(self._renew(keys, view))
        self._views.move_to_end(keys)
        await view.look()
        if keys in self._views:  # another look may have let go of it meanwhile
            self._count(keys, max(len(view), 1))
        while len(self._views) > 1 and self._records > self._most:
            gone, _ = self._views.popitem(last=False)
            del self._began[gone]
            self._count(gone, 0)
        return view

    def get(self, keys: str) -> View | None:
        """A view as of its last look, if it is remembered."""
        return self._views.get(keys)

    def _count(self, keys: str, size: int) -> None:
        self._records += size - self._sizes.pop(keys, 0)
        if size:
            self._sizes[keys] = size

    async def _renew(self, keys: str, known: View) -> None:
        """Whoever looks meanwhile gets the view that is known, as reading all may take seconds."""
        fresh = self._make(keys)
        try:
            await fresh.look()
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("records are not read anew", extra={"keys": keys, "reason": str(error) or type(error).__name__})
            return
        if self._views.get(keys) is known:
            self._views[keys] = fresh
