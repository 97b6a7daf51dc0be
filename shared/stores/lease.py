"""A lease: of all processes that want to do something, one does it for as long as it renews its claim."""

import secrets
import time
from collections.abc import Callable
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import KeyWrongLastSequenceError

from shared.nats.kv import Repository
from shared.nats.subjects import CHECKPOINTS

__all__ = ["LEASE", "Lease"]

LEASE: Final = 300.0
"""Seconds without a renewal after which another process takes over."""


class Lease:
    """One per process and name. The record is in the bucket `checkpoints`, where no tenant has a key of one part.

    Others wait by their own clocks until the record has not changed for `seconds`, so the clocks of machines need not
    agree.
    """

    def __init__(
        self,
        jetstream: JetStreamContext,
        name: str,
        *,
        seconds: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records: Repository[bytes] = Repository(jetstream, CHECKPOINTS, bytes, encode=bytes, noun="lease")
        self._name = name
        self._owner = secrets.token_hex(8).encode()
        self._seconds = seconds
        self._clock = clock
        self._seen = 0, clock()

    async def renew(self) -> bool:
        """Take, or keep, the lease. Returns whether this process has it now. Raises nats errors."""
        stored = await self._records.read(self._name)
        revision = stored.revision if stored else 0
        if revision != self._seen[0]:
            self._seen = revision, self._clock()
        free = stored is None or self._clock() - self._seen[1] >= self._seconds
        if not free and stored is not None and stored.record != self._owner:
            return False
        try:
            return await self._records.put(self._name, self._owner, revision=revision) is not None
        except KeyWrongLastSequenceError:
            return False
