"""Envelopes and their headers: whatever comes in is a query or is refused, and no worker stops for it."""

import json
import math
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.envelope import Hop, Query, unpack_vector
from shared.contracts.events import Result, decode_event, encode_event
from shared.runtime.stage import Context
from tests.fuzz.hypothesis_runner import example_began, fuzzed, saw
from tests.fuzz.values import bent_bytes, odd_texts
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness, settle

HOP = {"stage": "embed", "variant": "default", "worker": "e-1", "waited_ms": 0.25, "worked_ms": 8.5}
PASSAGE = {
    "id": "d1:0",
    "document_id": "d1",
    "document": "lamps/blue.md",
    "position": 0,
    "text": "The blue lamp.",
    "score": 0.5,
    "metadata": {"year": 1911, "lit": True, "place": "Sundsholm"},
    "vector": "AACAPwAAAL8=",
}
QUERY = {
    "id": "q1",
    "tenant": "acme",
    "lane": "interactive",
    "asked_at": 1.5,
    "deadline": 31.5,
    "reply": "reply.gateway-1.q1",
    "slip": [
        {"stage": "fuzz"},
        {"stage": "retrieve", "params": {"top_k": 3, "filter": {"year": {"$gt": 1900}}}},
        {"stage": "generate", "variant": "canary", "params": {"max_tokens": 64}},
    ],
    "attempt": 2,
    "question": "Who built it?",
    "messages": [{"role": "user", "content": "Hello"}],
    "collection": "lamps-1a2b3c4d",
    "embedding": "AACAPgAAAEA=",
    "passages": [PASSAGE],
    "notes": {"verdict": "fine"},
    "trail": [HOP],
}
NAMES = ("version", "encode", "stop", "remaining", "model_config", "slip", "params", "vector", "type", "__class__")


@fuzzed(120)
@given(data=bent_bytes([QUERY], names=NAMES))
@example(data=b'{"id":"q","asked_at":1,"deadline":NaN,"reply":"r","slip":[]}')
@example(data=json.dumps({**QUERY, "slip": [{"stage": "a"}] * 33}).encode())
@example(data=json.dumps({**QUERY, "slip": [{"stage": "a"}, {"stage": "b", "params": {"p": [math.nan]}}]}).encode())
def test_any_bytes_are_a_query_that_can_go_on_or_a_validation_error(data: bytes) -> None:
    example_began()
    try:
        query = Query.decode(data)
    except ValidationError:
        saw("refused")
        return
    saw("query")
    assert math.isfinite(query.remaining)
    sent = query.encode()
    assert Query.decode(sent).encode() == sent, "it comes back as it was sent"
    if not query.slip:
        return
    further = query.advance(Hop(**HOP))
    kept = Query.decode(further.encode()).slip
    assert [stop.model_dump_json() for stop in kept] == [stop.model_dump_json() for stop in query.slip[1:]]
    if max(data.count(b"{"), data.count(b"[")) > 150:
        return  # parsers end at 200 levels, of which an event has some; the gateway lets nothing in that is so deep
    result = decode_event(encode_event(Result(query=further)))
    assert isinstance(result, Result)
    assert result.query.encode() == further.encode(), "who asked can read what became of it"


@fuzzed(40)
@given(vector=st.binary(max_size=64))
def test_any_bytes_are_a_vector_or_a_struct_error(vector: bytes) -> None:
    example_began()
    try:
        assert len(unpack_vector(vector)) * 4 == len(vector)
    except struct.error:
        assert len(vector) % 4


@pytest.fixture(scope="module")
def harness(portal: BlockingPortal, broker: NatsServer) -> Iterator[StageHarness]:
    """A harness with a real worker of the stage `fuzz`, which passes on what it is given."""

    async def process(query: Query, _: Context) -> Query:
        return query

    with (
        portal.wrap_async_context_manager(open_stage_harness(broker.url)) as harness,
        portal.wrap_async_context_manager(harness.working(process, "fuzz", room=16)),
    ):
        yield harness


TRACES = ("", "00", "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "00-" + "f" * 32 + "-" + "e" * 16 + "-ff", "ff-zz-1-1")
words = (st.sampled_from(TRACES) | odd_texts).filter(lambda text: text.isascii() and text.isprintable())
headers = st.dictionaries(st.sampled_from(["traceparent", "tracestate", "Sluice-Replayed", "ce-id", "X"]), words)


def due(data: bytes) -> bytes:
    """The same with a deadline that has not passed, where it has one of the seed's."""
    return data.replace(b'"deadline": 31.5', b'"deadline": %d' % (time.time() + 60))


@fuzzed(8)
@given(rubbish=st.lists(st.tuples(bent_bytes([QUERY], names=NAMES), headers), max_size=12))
@example(rubbish=[(json.dumps({**QUERY, "deadline": float("nan")}).encode(), {})])
@example(rubbish=[(json.dumps({**QUERY, "reply": "a b\r\nPUB x 0\r\n\r\n"}).encode(), {})])
def test_a_worker_settles_all_that_is_on_its_queue_and_goes_on(
    portal: BlockingPortal, harness: StageHarness, rubbish: list[tuple[bytes, dict[str, Any]]]
) -> None:
    example_began()

    async def put_and_ask() -> None:
        for data, extra in rubbish:
            await harness.client.publish("query.fuzz.default.interactive.acme", due(data), headers=extra or None)
        await settle(harness.client)
        events = await harness.ask(harness.query("fuzz"))
        assert isinstance(events[-1], Result), events[-1]
        await harness.empty("fuzz")

    portal.call(put_and_ask)
    saw(f"{len(rubbish)} before a query")
