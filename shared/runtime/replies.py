"""The reply plane: ordered events from the stages straight to the caller, on core NATS.

The asker opens a `Mailbox` on `reply.<asker>.<query>` before it submits the query and closes it when it stops
listening. Closing withdraws the interest, so the broker answers a stage's next event with 503 at once: that is how
a worker learns that its reader has left. An asker of many queries at once has a `ReplyRouter` instead: one subscription
for all of them, which tells the stages itself when an event comes for a query that it does not read any more.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from shared.contracts.events import AnyEvent, Cancel, Progress, decode_event
from shared.nats.client import Connection
from shared.nats.subjects import cancel_subject, reply_subject
from shared.tasks import TaskSet

__all__ = ["GENERATORS", "Mailbox", "ReplyRouter", "SCHEDULERS", "open_mailbox"]

PENDING_EVENTS = 4096
"""Events that wait for a slow reader before the oldest are dropped."""

REMEMBERED_CANCELS: Final = 1000
"""Queries without a reader whose cancellation a router remembers."""


class Mailbox:
    """The events of one query, in the order in which each stage sent them.

    A `quiet` one does not wake its reader for `Progress` alone.
    """

    def __init__(self, client: Client, query_id: str, *, quiet: bool = False) -> None:
        self._client = client
        self._query_id = query_id
        self._quiet = quiet
        self._events: deque[AnyEvent] = deque(maxlen=PENDING_EVENTS)
        self._arrival: asyncio.Future[None] | None = None
        self.overflowed = False
        """Whether events were lost because nobody read them."""

    def deliver(self, message: Msg) -> None:
        """Take in the events of one message; what cannot be read is left out.

        A full mailbox loses its oldest, so the reader sees a gap in `index`, and the end.
        """
        for line in message.data.split(b"\n"):
            with suppress(ValidationError):
                self.put(decode_event(line))

    def put(self, event: AnyEvent) -> None:
        self.overflowed = self.overflowed or len(self._events) == PENDING_EVENTS
        self._events.append(event)
        if self._arrival is not None and not self._arrival.done() and not (self._quiet and type(event) is Progress):
            self._arrival.set_result(None)

    async def send(self, event: AnyEvent, /) -> bool:
        """Take in an event that its reader's own process has."""
        self.put(event)
        return True

    async def receive(self, timeout: float | None) -> AnyEvent:
        """The next event. Raises TimeoutError after `timeout` seconds, and never where that is None."""
        while not self._events:
            self._arrival = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout) if timeout is not None else nullcontext():
                await self._arrival
        return self._events.popleft()

    def more(self) -> AnyEvent | None:
        """The next event if it is here already."""
        return self._events.popleft() if self._events else None

    async def cancel(self) -> None:
        """Tell every stage to stop working on the query."""
        await _cancel(self._client, self._query_id)


class ReplyRouter:
    """The mailboxes of one asker, on one subscription, so that a query costs the broker no change of its subjects."""

    def __init__(self, client: Connection, asker: str) -> None:
        self._client = client
        self._asker = asker
        self._boxes: dict[str, Mailbox] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._cancels = TaskSet()

    async def open(self) -> None:
        """Listen, until the client closes. Raises nats errors."""
        await self._client.listen(reply_subject(self._asker, "*"), self._sort)

    @contextmanager
    def mailbox(self, query_id: str) -> Iterator[Mailbox]:
        """One query's events for as long as the block runs; quiet."""
        self._cancelled.pop(query_id, None)
        box = self._boxes[query_id] = Mailbox(self._client, query_id, quiet=True)
        try:
            yield box
        finally:
            del self._boxes[query_id]

    def _sort(self, message: Msg) -> None:
        query_id = message.subject.rpartition(".")[2]
        if (box := self._boxes.get(query_id)) is not None:
            box.deliver(message)
        elif query_id not in self._cancelled:
            # One cancel is enough: workers remember it.
            self._cancelled[query_id] = None
            if len(self._cancelled) > REMEMBERED_CANCELS:
                self._cancelled.popitem(last=False)
            self._cancels.start(self._cancel_quietly(query_id))

    async def _cancel_quietly(self, query_id: str) -> None:
        with suppress(NatsError):
            await _cancel(self._client, query_id)


async def _cancel(client: Client, query_id: str) -> None:
    cancel = Cancel(query=query_id, at=time.time())
    await client.publish(cancel_subject(query_id), cancel.model_dump_json().encode())


SCHEDULERS: Final = "scheduler"
"""The asker that all schedulers are; gateways are each their own. So their credentials keep them apart."""

GENERATORS: Final = "generator"
"""The asker that all generators are, which ask the embedder for vectors."""


@asynccontextmanager
async def open_mailbox(
    client: Connection, asker: str, query_id: str, *, subject: str | None = None
) -> AsyncIterator[Mailbox]:
    """Listen to one query's events for as long as the block runs, on the asker's reply subject or on another one."""
    mailbox = Mailbox(client, query_id)
    subscription = await client.listen(subject or reply_subject(asker, query_id), mailbox.deliver)
    try:
        yield mailbox
    finally:
        if not client.is_closed and not client.is_draining:
            await subscription.unsubscribe()
