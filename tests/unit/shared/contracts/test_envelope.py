"""The envelope on the wire: nothing is lost on a round trip, whatever version wrote it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.envelope import Hop, Lane, Passage, Query, Stop, pack_vector, unpack_vector

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**53), 2**53)
name = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8).map(pack_vector)
values = st.recursive(
    st.none() | st.booleans() | whole | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
unknown = st.dictionaries(text.map(lambda key: f"new_{key}"), values, max_size=3)

hops = st.builds(Hop, stage=text, variant=text, worker=text, waited_ms=finite, worked_ms=finite)
stops = st.builds(Stop, stage=name, variant=name, params=st.dictionaries(text, values, max_size=3))
passages = st.builds(
    Passage,
    id=text,
    document_id=text,
    document=text,
    position=whole,
    text=text,
    score=finite,
    metadata=st.dictionaries(text, text | st.booleans() | whole | finite, max_size=3),
    vector=st.none() | vectors,
)
queries = st.builds(
    Query,
    version=st.integers(1, 9),
    id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    tenant=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True),
    lane=st.sampled_from(Lane),
    asked_at=finite,
    deadline=finite,
    reply=st.from_regex(r"[^\s*>]{1,20}", fullmatch=True).filter(
        lambda reply: reply == reply.encode("utf-8", "ignore").decode()
    ),
    slip=st.lists(stops, max_size=4).map(tuple),
    attempt=whole,
    question=text,
    collection=text,
    embedding=st.none() | vectors,
    passages=st.lists(passages, max_size=3).map(tuple),
    notes=st.dictionaries(text, values, max_size=3),
    trail=st.lists(hops, max_size=3).map(tuple),
)


def query(**members: Any) -> Query:
    return Query(**{"id": "q", "asked_at": 1.0, "deadline": 2.0, "reply": "r", "slip": (Stop(stage="a"),)} | members)


@given(queries)
def test_an_envelope_comes_back_as_it_was_sent(sent: Query) -> None:
    assert Query.decode(sent.encode()) == sent


@given(queries, unknown, unknown, unknown)
def test_members_that_a_newer_version_has_added_are_passed_on(
    sent: Query, in_query: dict[str, Any], in_stop: dict[str, Any], in_passage: dict[str, Any]
) -> None:
    newer = json.loads(sent.encode()) | in_query | {"version": 2}
    newer["slip"] = [{"stage": "a"} | in_stop, *newer["slip"]][:32]
    newer["passages"] = [
        {"id": "p", "document_id": "d", "document": "n", "position": 0, "text": "t"} | in_passage,
    ]
    received = Query.decode(json.dumps(newer).encode())
    worked = received.with_embedding(pack_vector([1.0]))
    passed_on = json.loads(worked.encode())
    assert passed_on.pop("embedding")
    newer.pop("embedding", None)
    assert passed_on == newer


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_a_vector_keeps_its_components(components: list[float]) -> None:
    assert unpack_vector(pack_vector(components)) == tuple(components)


def test_a_vector_travels_as_base64_of_little_endian_float32() -> None:
    assert json.loads(query(embedding=pack_vector([1.0, -2.0])).encode())["embedding"] == "AACAPwAAAMA="


def test_advancing_takes_one_stop_off_the_slip_and_puts_one_hop_on_the_trail() -> None:
    hop = Hop(stage="a", variant="default", worker="w", waited_ms=1.0, worked_ms=2.0)
    before = query(slip=(Stop(stage="a"), Stop(stage="b")))
    after = before.advance(hop)
    assert (after.stop.stage, after.trail) == ("b", (hop,))
    assert before.stop.stage == "a", "an envelope is immutable"


@pytest.mark.parametrize(
    "members",
    [
        {"id": "a b"},
        {"id": ""},
        {"id": "a.b"},
        {"tenant": "*"},
        {"tenant": "a.b"},
        {"slip": (Stop(stage="a"),) * 33},
        {"slip": ({"stage": ">"},)},
        {"slip": ({"stage": "a", "variant": "B"},)},
        {"lane": "fast"},
        {"reply": ""},
        {"reply": "reply.>"},
        {"reply": "r\r\nPUB x 0\r\n"},
        {"deadline": math.nan},
        {"deadline": math.inf},
        {"embedding": "not base64!"},
    ],
    ids=repr,
)
def test_what_would_break_a_subject_or_a_bound_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        query(**members)


def test_an_infinite_number_survives_the_wire() -> None:
    passage = Passage(id="p", document_id="d", document="d", position=0, text="t", score=math.inf)
    query = Query(id="q", asked_at=0, deadline=1, reply="r", slip=(), passages=(passage,))
    assert Query.decode(query.encode()).passages[0].score == math.inf
