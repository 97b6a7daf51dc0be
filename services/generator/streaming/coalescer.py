"""Sends an answer's pieces, those that come in quick succession as one.

A fast engine writes hundreds of pieces a second, and each costs the same on its way to the reader, whatever its length.
The first piece, and each that comes after a pause, goes out at once. What is written within `interval` seconds after
one has gone out waits for the next piece after that time, and goes out with it: so that is between two steps of the
engine, and not while it computes. Where none comes, it goes out after as long again.
"""

import asyncio
from collections.abc import Iterable
from typing import Self

from services.generator.engines.base import TextDelta
from shared.contracts.generation import ToolCallDelta
from shared.runtime.stage import Context

__all__ = ["DeltaCoalescer"]


class DeltaCoalescer:
    """One answer's. Used as a context manager: what still waits at the end of the block is sent, unless it fails."""

    def __init__(self, context: Context, interval: float) -> None:
        self._context = context
        self._interval = interval
        self._due = 0.0
        self._waiting: list[TextDelta] = []
        self._timer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            if self._timer is not None:
                self._timer.cancel()
                await asyncio.gather(self._timer, return_exceptions=True)
            return
        async with self._turn:  # never in the middle of sending
            if self._timer is not None and not self._timer.done():
                self._timer.cancel()
        self._check()
        await self._flush()

    async def send(self, delta: TextDelta) -> None:
        """Send it, or have it sent soon. Raises what went wrong with an earlier one."""
        self._check()
        self._waiting.append(delta)
        if asyncio.get_running_loop().time() >= self._due:
            await self._flush()
        elif self._timer is None:
            self._timer = asyncio.create_task(self._later())
        # Gives a cancel, or the news that the reader has left, its turn between two pieces.
        await asyncio.sleep(0)

    def _check(self) -> None:
        """Raise what went wrong while nobody waited for it."""
        if self._timer is not None and self._timer.done():
            timer, self._timer = self._timer, None
            timer.result()

    async def _later(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            left = self._due + self._interval - loop.time()
            if left <= 0:
                await self._flush()
            else:
                await asyncio.sleep(left)

    async def _flush(self) -> None:
        async with self._turn:
            if not self._waiting:
                return
            delta = _joined(self._waiting)
            self._waiting = []
            self._due = asyncio.get_running_loop().time() + self._interval
            members = {
                "reasoning": delta.reasoning,
                "tool_calls": delta.tool_calls,
                "logprobs": delta.logprobs,
                "tokens": delta.tokens,
            }
            await self._context.delta(delta.text, **{name: value for name, value in members.items() if value})


def _joined(deltas: list[TextDelta]) -> TextDelta:
    if len(deltas) == 1:
        return deltas[0]
    return TextDelta(
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        tool_calls=_joined_calls(call for delta in deltas for call in delta.tool_calls),
        logprobs=tuple(logprob for delta in deltas for logprob in delta.logprobs),
        tokens=tuple(token for delta in deltas for token in delta.tokens),
    )


def _joined_calls(pieces: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
    joined: list[ToolCallDelta] = []
    for piece in pieces:
        if joined and joined[-1].index == piece.index:
            last = joined.pop()
            piece = last.model_copy(update={"arguments": last.arguments + piece.arguments})
        joined.append(piece)
    return tuple(joined)
