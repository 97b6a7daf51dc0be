"""What a stage is, for those who write one.

A stage is one function, `async (Query, Context) -> Query | None`. It returns the envelope with what it has added, and
the runtime forwards it to the next stop of the slip; or it streams its answer through the context and returns None.
It raises a `Problem` for work that can never succeed; any other exception is tried again and ends as a dead letter.
Several calls run at once, up to `room`; each may be cancelled at any `await`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from shared.contracts.envelope import Hop, Lane, Passage, Query
from shared.contracts.events import AnyEvent, Delivered, Delta, Done, Resumed, Sources, Usage

__all__ = ["Context", "Process", "Stage"]


class Context:
    """What a stage function holds besides the envelope: its parameters, and the way to the reader."""

    def __init__(
        self,
        query: Query,
        *,
        origin: dict[str, Any],
        hop: Callable[[], Hop],
        send: Callable[[AnyEvent], Awaitable[bool]],
        delivered: Callable[[], Awaitable[Delivered | None]],
    ) -> None:
        self._query = query
        self._origin = origin
        self._hop = hop
        self._send = send
        self._delivered = delivered
        self._deltas = 0

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of this stop on the slip, as the pipeline and the request gave them."""
        return self._query.stop.params

    async def sources(self, passages: Iterable[Passage]) -> None:
        """Send the reader the passages that the answer is made from, without vectors."""
        shown = tuple(p if p.vector is None else p.model_copy(update={"vector": None}) for p in passages)
        await self._send(Sources(passages=shown, **self._origin))

    async def delivered(self) -> Delivered | None:
        """What the reader has been given by an earlier try at this query; None if this is the first, or nobody knows.

        After this call nothing of an earlier try reaches the reader any more.
        """
        if self._origin["attempt"] == self._origin["delivery"] == 1:
            return None
        return await self._delivered()

    async def resume(self, delivered: Delivered) -> None:
        """Go on after what was delivered: the next delta follows its text. Without this call an answer starts anew."""
        await self._send(Resumed(characters=len(delivered.text), **self._origin))

    async def delta(self, text: str = "", **extras: Any) -> None:
        """Send the next piece of the answer; `extras` are the other members of `Delta`."""
        gone = await self._send(Delta(index=self._deltas, text=text, **extras, **self._origin))
        self._deltas += 1
        if gone:
            # Lets a cancel, or the notice that the reader has left, be handled.
            await asyncio.sleep(0)

    async def done(self, *, usage: Usage, engine: str, **extras: Any) -> None:
        """End the answer. Nothing is sent after this; `extras` are the other members of `Done`."""
        trail = (*self._query.trail, self._hop())
        await self._send(Done(deltas=self._deltas, usage=usage, engine=engine, trail=trail, **extras, **self._origin))


Process = Callable[[Query, Context], Awaitable[Query | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage and how much of it one worker does at once.

    `room` interactive messages are in work at most. The batch lane gets the room that the interactive lane leaves, up
    to `batch_room` messages; as nothing is taken back from it, `room + batch_room` is the most that is ever in work.
    `exclusive`: at most one message per lane is in work over all replicas. `canary` is the work that must pass before
    the worker calls itself ready; its id, slip and reply are set by the runtime. `model` is the name under which the
    stage's model can be asked for.
    """

    name: str
    process: Process
    variant: str = "default"
    room: int = 16
    batch_room: int = 4
    lanes: tuple[Lane, ...] = (Lane.INTERACTIVE, Lane.BATCH)
    exclusive: bool = False
    canary: Query | None = None
    model: str = ""
