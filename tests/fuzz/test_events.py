"""Reply events, job events and dead letters: who reads them takes what can be read, and nothing stops him."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.queries.assembler import AnswerAssembler, Ended, NewText
from shared.contracts.events import AnyEvent, Cancel, Delivered, Progress, decode_event, encode_event
from shared.contracts.problems import Problem
from tests.fuzz.hypothesis_runner import example_began, fuzzed, saw
from tests.fuzz.values import bent_bytes
from tests.harness.paths import WIRE

EVENTS: list[Any] = json.loads((WIRE / "events.json").read_text())
NAMES = ("type", "attempt", "delivery", "stage", "index", "problem", "query", "model_extra")


def read(data: bytes) -> AnyEvent | None:
    with suppress(ValidationError):
        return decode_event(data)
    return None


@fuzzed(120)
@given(data=bent_bytes(EVENTS, names=NAMES))
def test_any_bytes_are_an_event_that_can_be_sent_on_or_a_validation_error(data: bytes) -> None:
    example_began()
    event = read(data)
    if event is None:
        saw("refused")
        return
    saw(event.type)
    sent = encode_event(event)
    again = decode_event(sent)
    assert type(again) is type(event)
    assert encode_event(again) == sent


@fuzzed(40)
@given(data=bent_bytes([{"text": "Hello", "tokens": [1, 2]}, {"query": "q1", "at": 1.5}]))
def test_any_bytes_are_what_was_delivered_or_a_cancel_or_a_validation_error(data: bytes) -> None:
    example_began()
    for model in (Delivered, Cancel):
        with suppress(ValidationError):
            model.model_validate_json(data)
            saw(model.__name__)


SMALL = [event | {"attempt": 1, "delivery": 1} for event in EVENTS if event["type"] != "result"]
tries = st.integers(1, 3)
streams = st.lists(st.tuples(bent_bytes(SMALL, names=NAMES, most=2), tries, tries), max_size=12)


@fuzzed(60)
@given(stream=streams, standing=st.booleans())
@example(stream=[], standing=True)
def test_an_answer_takes_any_events_in_any_order_or_ends_in_a_problem(
    stream: list[tuple[bytes, int, int]], standing: bool
) -> None:
    example_began()
    answer, given_out, ended = AnswerAssembler(append_only=standing), "", 0
    for data, attempt, delivery in stream:
        event = read(data)
        if event is None:
            continue
        if isinstance(event, Progress):
            answer.report_delivered(event)
        event = event.model_copy(update={"attempt": attempt, "delivery": delivery})
        try:
            parts = answer.take(event)
        except Problem as problem:
            saw(problem.kind.code)
            json.dumps(problem.details.model_dump(), allow_nan=True)
            return
        given_out += "".join(part.text for part in parts if isinstance(part, NewText))
        ended += sum(isinstance(part, Ended) for part in parts)
    saw("ended" if ended else "open")
    assert answer.text is not None
    assert all(call.id is not None for call in answer.tool_calls)
    if standing:
        assert given_out.startswith(answer.text) or answer.text.startswith(given_out), "what was given out stands"
