"""Records of a key-value bucket, followed live, through whatever happens to the broker."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import BucketNotFoundError
from nats.js.kv import KeyValue

from shared.nats.client import delivered, end_watching
from shared.tasks import background

__all__ = ["DEFAULTS", "WatchOptions", "watch_records"]

log = logging.getLogger(__name__)

Record = TypeVar("Record")

SHARE: Final = 10.0
"""How many times as long as handing on all records takes the next change waits at least: so of many records
that are written one after the other each costs little."""

RARE: Final = 50.0
"""How many times longer than it takes to read all records pass at least before that is done again."""

SILENCE: Final = 10.0
"""Seconds in which the broker must list the next record, for a service to start."""

LEFT_BEHIND: Final = 5.0
"""Seconds for which the broker keeps a reading position that nobody listens to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """How a watch renews itself. Times are seconds."""

    poll: float = 0.25
    """After which a watch notices that its connection is a new one, and a failed watch is tried again."""

    refresh: float = 30.0
    """After which all records are read again, whatever a watch may have missed."""


DEFAULTS: Final = WatchOptions()


@asynccontextmanager
async def watch_records(
    client: Client,
    jetstream: JetStreamContext,
    bucket: str,
    *,
    read: Callable[[str, bytes, Record | None], Record | None],
    changed: Callable[[Mapping[str, Record]], None],
    options: WatchOptions = DEFAULTS,
) -> AsyncIterator[None]:
    """Call `changed` with all records by key: once before the block begins, then within a second of each change.

    `read` makes a record of a key, its value and the record known so far; None leaves it out. While the broker is away
    the last records stay in force. Raises TimeoutError if the broker does not list them at the beginning.
    """
    watch = _Watch(client, jetstream, bucket, read, changed, options)
    async with background(watch.run()):
        await watch.wait()
        yield


class _Watch(Generic[Record]):
    """A watch on a bucket that is begun again with each connection, after each failure, and every now and then."""

    def __init__(
        self,
        client: Client,
        jetstream: JetStreamContext,
        bucket: str,
        read: Callable[[str, bytes, Record | None], Record | None],
        changed: Callable[[Mapping[str, Record]], None],
        options: WatchOptions,
    ) -> None:
        self._client = client
        self._js = jetstream
        self._bucket = bucket
        self._read = read
        self._changed = changed
        self._options = options
        self._records: dict[str, Record] = {}
        self._read_before: dict[str, tuple[bytes, Record | None]] = {}
        """What was made of which value, also where it has not been handed on yet."""
        self._failing = False
        self._loaded = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the first records. Raises TimeoutError where no more of them come."""
        listed = -1
        while not self._loaded.is_set():
            if listed == len(self._read_before):
                raise TimeoutError(f"the broker does not list the {self._bucket}")
            listed = len(self._read_before)
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENCE):
                    await self._loaded.wait()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if self._client.is_connected:
                    await self._watch()
                    continue
            except BucketNotFoundError:
                # A bucket that is made again has no records in it; until then nothing is known to change.
                self._publish(self._records)
            except (NatsError, TimeoutError, OSError) as error:
                self._warn(error)
            await asyncio.sleep(self._options.poll)

    async def _watch(self) -> None:
        """Read all records, then their changes, for a while or until the connection is another one."""
        connection = self._client.stats["reconnects"]
        bucket = await self._js.key_value(self._bucket)
        watcher = await bucket.watch(">", inactive_threshold=LEFT_BEHIND)
        found: dict[str, Record] = {}
        whole = changed = False
        began, due, ends = time.monotonic(), 0.0, math.inf
        try:
            while self._client.stats["reconnects"] == connection and time.monotonic() < ends:
                wait = max(due - time.monotonic(), 0.001) if whole and changed else self._options.poll
                try:
                    entry = await watcher.updates(timeout=wait)  # type: ignore[no-untyped-call]
                except NatsTimeout:
                    pass
                else:
                    changed = True
                    if entry is not None:
                        self._note(entry, found)
                        whole = whole or not entry.delta
                    elif not await delivered(watcher):
                        # The client says so too where all entries are on their way, so the broker has to be asked.
                        whole = True
                if whole and ends == math.inf:
                    now = time.monotonic()
                    ends = now + max(self._options.refresh, RARE * (now - began))
                if whole and changed and time.monotonic() >= due:
                    self._failing = changed = False
                    due = self._publish(found)
        finally:
            await end_watching(watcher)

    def _note(self, entry: KeyValue.Entry, found: dict[str, Record]) -> None:
        record = None
        if entry.operation is None:
            value = entry.value or b""
            before, record = self._read_before.get(entry.key, (None, None))
            if before != value:
                record = self._read(entry.key, value, record)
                self._read_before[entry.key] = value, record
        else:
            self._read_before.pop(entry.key, None)
        if record is None:
            found.pop(entry.key, None)
        else:
            found[entry.key] = record

    def _publish(self, records: Mapping[str, Record]) -> float:
        """Returns when it may be done again."""
        began = time.monotonic()
        if records != self._records or not self._loaded.is_set():
            self._records = dict(records)
            self._changed(MappingProxyType(self._records))
        self._loaded.set()
        ended = time.monotonic()
        return ended + SHARE * (ended - began)

    def _warn(self, error: Exception) -> None:
        if not self._failing:
            log.warning("cannot watch the %s; those known last stay in force: %r", self._bucket, error)
        self._failing = True
