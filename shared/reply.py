"""The reply plane: ordered events from the stages straight to whoever asked, on core NATS.

The asker opens a `Mailbox` on `reply.<asker>.<query>` before it submits the query and closes it when it stops
listening. Closing withdraws the interest, so the broker answers a stage's next event with 503 at once: that is how
a worker learns that its reader has left.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import Field, TypeAdapter, ValidationError

from shared.envelope import Hop, Passage, Query, Wire
from shared.problems import ProblemDetails

__all__ = [
    "AnyEvent",
    "Cancel",
    "Delta",
    "Done",
    "Event",
    "Failed",
    "Mailbox",
    "Progress",
    "Result",
    "Sources",
    "Usage",
    "cancel_subject",
    "decode_event",
    "encode_event",
    "open_mailbox",
    "reply_subject",
]

PENDING_EVENTS = 4096
"""Events that wait for a slow reader before the oldest are dropped."""


class Usage(Wire):
    """Tokens as the engine counts them; `engine` says whose count it is."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(Wire):
    """`attempt` and `delivery` order the tries at one query: events of an older try are stale."""

    attempt: int = 1
    delivery: int = 1
    stage: str = ""


class Progress(_Event):
    """A worker has taken the query and started on it."""

    type: Literal["progress"] = "progress"
    worker: str = ""


class Sources(_Event):
    """The passages that the answer is made from, in citation order."""

    type: Literal["sources"] = "sources"
    passages: tuple[Passage, ...]


class Delta(_Event):
    """The next piece of the answer. `index` counts from 0 without gaps within one try."""

    type: Literal["delta"] = "delta"
    index: int
    text: str


class Done(_Event):
    """The answer is complete. `deltas` is how many pieces it had."""

    type: Literal["done"] = "done"
    deltas: int
    usage: Usage = Usage()
    engine: str = ""
    finish: str = "stop"
    trail: tuple[Hop, ...] = ()


class Result(_Event):
    """The slip ended at a stage that does not stream: the envelope as that stage left it."""

    type: Literal["result"] = "result"
    query: Query


class Failed(_Event):
    """The query ends here, with a problem."""

    type: Literal["failed"] = "failed"
    problem: ProblemDetails
    trail: tuple[Hop, ...] = ()


Event = Annotated[Progress | Sources | Delta | Done | Result | Failed, Field(discriminator="type")]
AnyEvent = Progress | Sources | Delta | Done | Result | Failed
_events: TypeAdapter[AnyEvent] = TypeAdapter(Event)


def encode_event(event: AnyEvent) -> bytes:
    return event.model_dump_json().encode()


def decode_event(data: bytes) -> AnyEvent:
    """Raises pydantic.ValidationError for anything that is no event."""
    return _events.validate_json(data)


def reply_subject(asker: str, query_id: str) -> str:
    return f"reply.{asker}.{query_id}"


def cancel_subject(query_id: str) -> str:
    return f"control.cancel.{query_id}"


class Cancel(Wire):
    """Stop all work on a query. `at` is the Unix time at which the asker lost interest."""

    query: str
    at: float


class Mailbox:
    """The events of one query, in the order in which each stage sent them."""

    def __init__(self, client: Client, query_id: str) -> None:
        self._client = client
        self._query_id = query_id
        self._events: asyncio.Queue[Msg] = asyncio.Queue(maxsize=PENDING_EVENTS)

    async def deliver(self, message: Msg) -> None:
        """Take one message in. A full mailbox loses its oldest, so the reader sees a gap in `index`, and the end."""
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(message)

    async def receive(self, timeout: float) -> AnyEvent:
        """The next event. Raises TimeoutError after `timeout` seconds; events that cannot be read are skipped."""
        while True:
            if self._events.empty():
                async with asyncio.timeout(timeout):
                    message = await self._events.get()
            else:
                message = self._events.get_nowait()
            try:
                return decode_event(message.data)
            except ValidationError:
                continue

    async def cancel(self) -> None:
        """Tell every stage to stop working on the query."""
        cancel = Cancel(query=self._query_id, at=time.time())
        await self._client.publish(cancel_subject(self._query_id), cancel.model_dump_json().encode())


@asynccontextmanager
async def open_mailbox(client: Client, asker: str, query_id: str) -> AsyncIterator[Mailbox]:
    """Listen to one query's events for as long as the block runs."""
    mailbox = Mailbox(client, query_id)
    subscription = await client.subscribe(reply_subject(asker, query_id), cb=mailbox.deliver)
    try:
        yield mailbox
    finally:
        if not client.is_closed and not client.is_draining:
            await subscription.unsubscribe()
