"""Pieces of an answer that come in quick succession go out as one."""

import asyncio
from typing import Any

import pytest

from services.generator.engines.base import TextDelta
from services.generator.streaming.coalescer import DeltaCoalescer
from shared.contracts.envelope import Hop, Query, Stop
from shared.contracts.events import AnyEvent, Delivered, Delta
from shared.contracts.generation import ToolCallDelta
from shared.runtime.stage import Context

pytestmark = pytest.mark.anyio

LONG = 3600.0


class Reader:
    """Takes the events of one answer."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.heard = asyncio.Event()
        self.fails: Exception | None = None
        query = Query(id="q", asked_at=0, deadline=0, reply="-", slip=(Stop(stage="generate"),), question="Why?")

        def hop() -> Hop:
            return Hop(stage="generate", variant="default", worker="w", waited_ms=0, worked_ms=0)

        self.context = Context(
            query,
            origin={"attempt": 1, "delivery": 1, "stage": "generate"},
            hop=hop,
            send=self._send,
            delivered=self._given,
        )

    async def _send(self, event: AnyEvent) -> bool:
        assert isinstance(event, Delta)
        if self.fails is not None and self.deltas:
            self.heard.set()
            raise self.fails
        self.deltas.append(event)
        if len(self.deltas) == 2:
            self.heard.set()
        return True

    async def _given(self) -> Delivered | None:
        return None


async def write(interval: float, *pieces: TextDelta) -> list[Delta]:
    reader = Reader()
    async with DeltaCoalescer(reader.context, interval) as coalescer:
        for piece in pieces:
            await coalescer.send(piece)
    return reader.deltas


def texts(*words: str) -> list[TextDelta]:
    return [TextDelta(text=word, tokens=(len(word),)) for word in words]


async def test_the_first_piece_goes_out_at_once_and_what_follows_quickly_as_one() -> None:
    deltas = await write(LONG, *texts("The ", "lamp ", "is ", "lit."))

    assert [delta.text for delta in deltas] == ["The ", "lamp is lit."]
    assert [delta.tokens for delta in deltas] == [(4,), (5, 3, 4)]
    assert [delta.index for delta in deltas] == [0, 1]


async def test_without_an_interval_each_piece_goes_out_on_its_own() -> None:
    assert [delta.text for delta in await write(0.0, *texts("a", "b", "c"))] == ["a", "b", "c"]


async def test_what_waits_goes_out_though_the_engine_writes_no_more() -> None:
    reader = Reader()
    async with DeltaCoalescer(reader.context, 0.01) as coalescer:
        for piece in texts("a", "b", "c"):
            await coalescer.send(piece)
        async with asyncio.timeout(10):
            await reader.heard.wait()
        assert [delta.text for delta in reader.deltas] == ["a", "bc"]
    assert len(reader.deltas) == 2


async def test_what_waits_goes_out_with_the_next_piece_after_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    reader = Reader()
    async with DeltaCoalescer(reader.context, 20.0) as coalescer:
        for piece in texts(*"abcdefg"):
            await coalescer.send(piece)
            now += 16.0
        assert [delta.text for delta in reader.deltas] == ["a", "bc", "de", "fg"]


async def test_pieces_of_one_tool_call_are_joined_and_calls_stay_apart() -> None:
    def call(index: int, arguments: str, **begin: Any) -> TextDelta:
        return TextDelta(tool_calls=(ToolCallDelta(index=index, arguments=arguments, **begin),))

    begin = call(0, "", id="c0", name="look")
    _, rest = await write(LONG, begin, call(0, '{"a"'), call(0, ":1}"), call(1, "{", id="c1", name="go"), call(1, "}"))

    assert rest.tool_calls == (
        ToolCallDelta(index=0, arguments='{"a":1}'),
        ToolCallDelta(index=1, arguments="{}", id="c1", name="go"),
    )


async def test_a_failure_while_nothing_is_written_ends_the_answer() -> None:
    reader = Reader()
    reader.fails = ConnectionError("gone")

    async def answer() -> None:
        async with DeltaCoalescer(reader.context, 0.01) as coalescer:
            for piece in texts("a", "b"):
                await coalescer.send(piece)
            async with asyncio.timeout(10):
                await reader.heard.wait()

    with pytest.raises(ConnectionError, match="gone"):
        await answer()


async def test_an_engine_that_fails_sends_nothing_more() -> None:
    reader = Reader()

    async def answer() -> None:
        async with DeltaCoalescer(reader.context, LONG) as coalescer:
            for piece in texts("a", "b"):
                await coalescer.send(piece)
            raise RuntimeError("the engine is lost")

    with pytest.raises(RuntimeError, match="lost"):
        await answer()
    assert [delta.text for delta in reader.deltas] == ["a"]
