"""Whether the broker stores what it is given: it may answer all questions and refuse, or not answer, every write.

That is so where its limit is reached, and where its disk is full. After a write that failed on a full disk nats-server
2.15 takes no more writes to that stream until it is started again, also once there is room.
"""

import asyncio
import logging
from enum import StrEnum
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import APIError
from prometheus_client import Gauge

from shared.contracts.problems import Problem, ProblemType
from shared.nats.errors import is_storage_full
from shared.nats.subjects import FILES, bucket_stream
from shared.service.bus import Bus

__all__ = ["Storage", "StorageWatch", "storage_full"]

log = logging.getLogger(__name__)

FULL: Final = Gauge(
    "sluice_broker_storage_full", "Whether the broker did not store what it was given at the last look: 1 or 0."
)

LOOK: Final = 15.0
LOOK_AGAIN: Final = 2.0
"""Seconds between two looks, and while the storage is full."""

TIMEOUT: Final = 3.0

RECORD: Final = bytes(64 * 2**10)
"""More than what fits into the rest of a file's last block, which is there also where the disk is full."""

REFUSED: Final = "it does not store what it is given, so its disk is full or a write to it has failed"


class Storage(StrEnum):
    """What a service is without the broker's storage: not ready, or ready for what needs none, as queries."""

    NEEDED = "needed"
    WATCHED = "watched"


class StorageWatch:
    """Writes a record to the broker now and then. `full` says why that did not work; empty where it did."""

    def __init__(self, bus: Bus, instance: str) -> None:
        self.full = ""
        self._bus = bus
        # No tenant has this name, so no list of a tenant's files has the record.
        self._subject = f"$KV.{FILES}._health.{instance}"

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if self._bus.connected:
                await self.check()
            await asyncio.sleep(LOOK_AGAIN if self.full else LOOK)

    async def check(self) -> str:
        """Look now. Returns why the broker does not store anything; empty where it does, or is away."""
        before, self.full = self.full, await self._look()
        FULL.set(bool(self.full))
        if self.full and not before:
            log.error("the message broker cannot store anything: %s", self.full)
        elif before and not self.full:
            log.info("the message broker stores what it is given again")
        return self.full

    async def _look(self) -> str:
        jetstream = self._bus.jetstream
        try:
            await jetstream.publish(self._subject, RECORD, timeout=TIMEOUT)
        except APIError as error:
            return str(error.description) if is_storage_full(error) else ""
        except (NatsError, TimeoutError, OSError):
            try:
                await jetstream.stream_info(bucket_stream(FILES))
            except (NatsError, TimeoutError, OSError):
                return ""
            return REFUSED
        return ""


def storage_full(why: str) -> Problem:
    """The problem of what could not be stored."""
    return Problem(
        ProblemType.STORAGE_FULL,
        f"The message broker cannot store this: {why}. Whoever runs Sluice has to make room on its disk; see "
        "docs/operations.md#full-disk. Queries still work.",
        headers={"Retry-After": "60"},
    )
