"""The events of one try at a query on their way to its reader.

Those that come within a millisecond go together, and one that comes alone after that time goes at once: a message costs
every process that it passes as much as twenty events in it. So a model's tokens are not held up, and a burst of them is
one message.
"""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from nats.aio.client import Client
from nats.errors import Error as NatsError

from shared.contracts.envelope import Query
from shared.contracts.events import AnyEvent, Done, Failed, Result, encode_event, join_events
from shared.contracts.problems import Problem, ProblemType

__all__ = ["EventPublisher"]

LAST: Final = (Done, Failed, Result)
"""Events after which none comes."""

PAUSE: Final = 0.001
"""Seconds from the beginning to the first message, and between two messages; the last does not wait."""

LARGEST: Final = 64 * 1024
"""Bytes of events that are joined."""


class EventPublisher:
    """As a context manager it sends what is left in the end, unless the work was cancelled.

    `inbox` is where the broker says that nobody listens.
    """

    def __init__(self, client: Client, query: Query, *, stage: str, inbox: str) -> None:
        self._client = client
        self._query = query
        self._stage = stage
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self._size = 0
        self._next = self._loop.time() + PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                await self.flush()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def send(self, event: AnyEvent) -> bool:
        """Returns whether it has gone. Raises Problem TOO_LARGE for an event that fits into no message, nats errors."""
        data = encode_event(event)
        limit = self._client.max_payload
        if len(data) > limit:
            raise Problem(
                ProblemType.TOO_LARGE,
                f"The answer of stage '{self._stage}' is larger than the message broker takes: {limit:,} bytes.",
            )
        if self._size + len(data) > min(LARGEST, limit):
            await self.flush()
        self._waiting.append(data)
        self._size += len(data) + 1
        if isinstance(event, LAST) or not self._query.joined or self._loop.time() >= self._next:
            await self.flush()
            return True
        if self._timer is None:
            self._timer = self._loop.call_at(self._next, self._due)
        return False

    async def flush(self) -> None:
        """Send what waits. Raises nats errors, and keeps it then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._next = self._loop.time() + PAUSE
        try:
            for message in [join_events(waiting)] if self._query.joined else waiting:
                await self._client.publish(self._query.reply, message, reply=self._inbox)
        except (NatsError, OSError):
            self._waiting[:0] = waiting
            self._size = sum(map(len, self._waiting))
            raise

    def _due(self) -> None:
        self._timer = None
        self._late = asyncio.create_task(self._flush_late())

    async def _flush_late(self) -> None:
        with suppress(NatsError, OSError):  # it comes again with the next flush
            await self.flush()
