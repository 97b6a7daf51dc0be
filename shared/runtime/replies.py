"""The reply plane: ordered events from the stages straight to whoever asked, on core NATS.

The asker opens a `Mailbox` on `reply.<asker>.<query>` before it submits the query and closes it when it stops
listening. Closing withdraws the interest, so the broker answers a stage's next event with 503 at once: that is how
a worker learns that its reader has left. An asker of many queries at once has a `Mailroom` instead: one subscription
for all of them, which tells the stages itself when an event comes for a query that it does not read any more.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Annotated, Final, Literal

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import Field, TypeAdapter, ValidationError

from shared.contracts.envelope import Hop, Passage, Query, Wire
from shared.contracts.generation import ContextReport, TokenLogprob, ToolCallDelta
from shared.contracts.problems import ProblemDetails
from shared.nats.client import Connection
from shared.runtime.tasks import Errands

__all__ = [
    "AnyEvent",
    "Cancel",
    "Delivered",
    "Delta",
    "Done",
    "Event",
    "Failed",
    "Mailbox",
    "Mailroom",
    "Progress",
    "Result",
    "Resumed",
    "SCHEDULERS",
    "Sources",
    "Usage",
    "cancel_subject",
    "decode_event",
    "delivered_subject",
    "encode_event",
    "join_events",
    "open_mailbox",
    "reply_subject",
]

PENDING_EVENTS = 4096
"""Events that wait for a slow reader before the oldest are dropped."""

REMEMBERED_STRANGERS: Final = 1000
"""Queries without a reader of which a mailroom remembers that it has told the stages."""


class Usage(Wire):
    """Tokens as the engine counts them; `cached_tokens` of the prompt were in its cache already."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class _Event(Wire):
    """`attempt` and `delivery` order the tries at one query: events of an older try are stale.

    `message` is the broker's number of the message that a try works on. The same work published twice makes two tries
    at once with the same attempt and delivery: the one that is heard first counts.
    """

    attempt: int = 1
    delivery: int = 1
    message: int = 0
    stage: str = ""


class Progress(_Event):
    """A worker has taken the query and started on it."""

    type: Literal["progress"] = "progress"
    worker: str = ""


class Sources(_Event):
    """The passages that the answer is made from, in citation order."""

    type: Literal["sources"] = "sources"
    passages: tuple[Passage, ...]


class Resumed(_Event):
    """A new try at the answer does not start again: its deltas go on after the first `characters` of the text."""

    type: Literal["resumed"] = "resumed"
    characters: int


class Delta(_Event):
    """The next piece of the answer. `index` counts from 0 without gaps within one try.

    `tokens` are the engine's own for this piece, so that another replica can go on from exactly here.
    """

    type: Literal["delta"] = "delta"
    index: int
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens: tuple[int, ...] = ()


class Done(_Event):
    """The answer is complete. `deltas` is how many pieces it had, `cited` the sources that its citations name."""

    type: Literal["done"] = "done"
    deltas: int
    usage: Usage = Usage()
    engine: str = ""
    model: str = ""
    finish: str = "stop"
    context: ContextReport = ContextReport()
    cited: tuple[int, ...] = ()
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


AnyEvent = Progress | Sources | Resumed | Delta | Done | Result | Failed
Event = Annotated[AnyEvent, Field(discriminator="type")]
_events: TypeAdapter[AnyEvent] = TypeAdapter(Event)


def encode_event(event: AnyEvent) -> bytes:
    # Only what was set is sent, and the type must be.
    event.__pydantic_fields_set__.add("type")
    return event.__pydantic_serializer__.to_json(event, exclude_unset=True)


def decode_event(data: bytes) -> AnyEvent:
    """Raises pydantic.ValidationError for anything that is no event."""
    return _events.validate_json(data)


def join_events(encoded: Iterable[bytes]) -> bytes:
    """Several encoded events as one message, for a query whose reader takes them `joined`."""
    return b"\n".join(encoded)


def reply_subject(asker: str, query_id: str) -> str:
    return f"reply.{asker}.{query_id}"


def delivered_subject(reply: str) -> str:
    """Where to ask how much of an answer its reader has been given; `reply` is the query's reply subject."""
    return f"{reply}.delivered"


def cancel_subject(query_id: str) -> str:
    return f"control.cancel.{query_id}"


class Delivered(Wire):
    """What a reader has been given of an answer: its text, and the engine's tokens for it if all of it came with some.

    A worker asks for it with a `Progress` of its own try on `delivered_subject`. Whoever answers takes nothing more
    from earlier tries, so the text stands still.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()


class Cancel(Wire):
    """Stop all work on a query. `at` is the Unix time at which the asker lost interest."""

    query: str
    at: float


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

    def deliver(self, message: Msg) -> None:
        """Take in the events of one message; what cannot be read is left out.

        A full mailbox loses its oldest, so the reader sees a gap in `index`, and the end.
        """
        for line in message.data.split(b"\n"):
            with suppress(ValidationError):
                self.put(decode_event(line))

    def put(self, event: AnyEvent) -> None:
        self._events.append(event)
        if self._arrival is not None and not self._arrival.done() and not (self._quiet and type(event) is Progress):
            self._arrival.set_result(None)

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


class Mailroom:
    """The mailboxes of one asker, on one subscription, so that a query costs the broker no change of its subjects."""

    def __init__(self, client: Connection, asker: str) -> None:
        self._client = client
        self._asker = asker
        self._boxes: dict[str, Mailbox] = {}
        self._told: OrderedDict[str, None] = OrderedDict()
        self._telling = Errands()

    async def open(self) -> None:
        """Listen, until the client closes. Raises nats errors."""
        await self._client.listen(reply_subject(self._asker, "*"), self._sort)

    @contextmanager
    def mailbox(self, query_id: str) -> Iterator[Mailbox]:
        """One query's events for as long as the block runs; quiet."""
        self._told.pop(query_id, None)
        box = self._boxes[query_id] = Mailbox(self._client, query_id, quiet=True)
        try:
            yield box
        finally:
            del self._boxes[query_id]

    def _sort(self, message: Msg) -> None:
        query_id = message.subject.rpartition(".")[2]
        if (box := self._boxes.get(query_id)) is not None:
            box.deliver(message)
        elif query_id not in self._told:
            # One cancel is enough: workers remember it.
            self._told[query_id] = None
            if len(self._told) > REMEMBERED_STRANGERS:
                self._told.popitem(last=False)
            self._telling.start(self._tell(query_id))

    async def _tell(self, query_id: str) -> None:
        with suppress(NatsError):
            await _cancel(self._client, query_id)


async def _cancel(client: Client, query_id: str) -> None:
    cancel = Cancel(query=query_id, at=time.time())
    await client.publish(cancel_subject(query_id), cancel.model_dump_json().encode())


SCHEDULERS: Final = "scheduler"
"""The asker that all schedulers are; gateways are each their own. So their credentials keep them apart."""


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
