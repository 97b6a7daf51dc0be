"""Holds changes of the index while records and index are taken, so that both are of one moment.

Every change of a document passes the queue of the stage `index`, which has one consumer for all replicas: first the
index is written, then the record. While the broker delivers nothing from this queue, and what was in work has ended,
neither changes. The broker ends the pause by itself if nobody prolongs it, so a backup that dies holds nobody for long.
Queries go on meanwhile; jobs that change documents wait.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from services.retriever.backup.errors import BackupError
from shared.nats.subjects import BUILT_IN_QUEUES, DOCUMENTS, QUERIES, bucket_stream
from shared.tasks import background

__all__ = ["PausedIndex", "index_paused"]

LEASE: Final = 60.0
"""Seconds after which the broker ends a pause that nobody prolongs."""

PROLONGED: Final = 15.0
LOOK: Final = 0.05

DRAIN: Final = 60.0
"""Seconds for the change in work to end."""

QUIET: Final = 0.5
SETTLE: Final = 10.0
"""Seconds without a new record that prove that jobs have written theirs, and seconds to wait for that. A job that is
slower is still in the queue of jobs, and so in the backup: it is done again after a restore."""

QUEUE: Final = next(queue.consumer for queue in BUILT_IN_QUEUES if queue.exclusive)


class PausedIndex:
    """For how long changes have been held, in seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._began

    def end(self) -> None:
        self._ended = time.monotonic()


@asynccontextmanager
async def index_paused(client: Client, jetstream: JetStreamContext) -> AsyncGenerator[PausedIndex, None]:
    """Hold changes of the index for as long as the block runs. Without a queue nobody changes anything.

    Raises BackupError where the change in work does not end in time, and nats errors.
    """
    paused = PausedIndex()
    if not await _pause(client, LEASE):
        yield paused
        paused.end()
        return
    try:
        async with background(_prolong(client)):
            await _drained(jetstream)
            await _settled(jetstream)
            yield paused
    finally:
        await _pause(client, 0.0)
        paused.end()


async def _pause(client: Client, seconds: float) -> bool:
    """Returns whether there is a queue; 0 seconds end a pause."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    body: dict[str, Any] = {"pause_until": until.isoformat().replace("+00:00", "Z")} if seconds else {}
    answer = await client.request(f"$JS.API.CONSUMER.PAUSE.{QUERIES}.{QUEUE}", json.dumps(body).encode(), timeout=5.0)
    error = json.loads(answer.data).get("error")
    if error is not None and error.get("code") != 404:
        raise BackupError(f"changes of the index cannot be held: {error.get('description')}")
    return error is None


async def _prolong(client: Client) -> None:
    while True:
        await asyncio.sleep(PROLONGED)
        await _pause(client, LEASE)


async def _drained(jetstream: JetStreamContext) -> None:
    give_up = time.monotonic() + DRAIN
    while True:
        try:
            info = await jetstream.consumer_info(QUERIES, QUEUE)
        except NotFoundError:
            return
        if not info.num_ack_pending:
            return
        if time.monotonic() > give_up:
            raise BackupError(f"a change of the index did not end within {DRAIN:.0f} s; is a retriever ready?")
        await asyncio.sleep(LOOK)


async def _settled(jetstream: JetStreamContext) -> None:
    give_up = time.monotonic() + SETTLE
    quiet_since, last = time.monotonic(), -1
    while time.monotonic() < min(quiet_since + QUIET, give_up):
        sequence = (await jetstream.stream_info(bucket_stream(DOCUMENTS))).state.last_seq
        if sequence != last:
            quiet_since, last = time.monotonic(), sequence
        await asyncio.sleep(LOOK)
