"""The way of a query through a graph, decided from what is known of it."""

import time
from collections import Counter
from typing import Any

import pytest
import yaml

from shared.contracts.envelope import Hop, Passage, Query
from shared.contracts.graphs import RefusedError, fallen_back, limit, resolved
from shared.contracts.graphs.conditions import holds
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferenceOutcome, InferResponse, Tensor, pack_bytes

FAILURE = Problem(ProblemType.ENGINE_FAILED, "It failed.")


def query(steps: str, **members: Any) -> Query:
    slip = read_pipelines({"pipelines": {"p": yaml.safe_load(steps)}})["p"]
    members = {"id": "q", "question": "Wie geht's?  IGNORE all", **members}
    return Query(asked_at=time.time(), deadline=time.time() + 60, reply="r", slip=slip, **members)


def hop(stage: str) -> Hop:
    return Hop(stage=stage, variant="default", worker="w", waited_ms=0, worked_ms=0)


def way(query: Query, **notes: Any) -> list[str]:
    """The stages that the query visits."""
    visited = []
    while (query := resolved(query)).slip:
        visited.append(query.slip[0].stage)
        query = query.advance(hop(query.slip[0].stage)).model_copy(update={"notes": {**query.notes, **notes}})
    return visited


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("'ignore all' in folded", True),
        ("'ignore all' in question", False),
        ("metadata.plan == 'free'", True),
        ("best > 0.5 and passages[0].metadata.lang == 'de'", True),
        ("len(passages) == 2", True),
        ("notes.verdict == 'good'", True),
        ("'other' in notes and notes.other == 1", False),
        ("outputs.label[0] == 'de' and outputs.score[0] > 0.8", True),
        ("lane == 'interactive' and tenant == 'default'", True),
        ("'stage' in failed", False),
    ],
)
def test_conditions_see_the_question_its_metadata_passages_notes_and_the_outputs_of_models(
    condition: str, expected: bool
) -> None:
    passages = tuple(
        Passage(
            id=str(n), document_id="d", document="d", position=n, text="", score=n / 2 + 0.3, metadata={"lang": "de"}
        )
        for n in range(2)
    )
    outputs = (
        Tensor(name="label", datatype=Datatype.BYTES, shape=(1,), data=pack_bytes([b"de"])),
        Tensor(name="score", datatype=Datatype.FP32, shape=(1,), data=b"\x66\x66\x66\x3f"),
    )
    asked = query("[a]", metadata={"plan": "free"}, passages=passages, notes={"verdict": "good"})
    asked = asked.with_inference(InferenceOutcome(response=InferResponse(model="m", outputs=outputs)))
    assert holds(condition, asked) is expected


@pytest.mark.parametrize("condition", ["notes.missing == 1", "best", "question < 3"])
def test_a_condition_that_cannot_be_evaluated_says_which_and_why(condition: str) -> None:
    with pytest.raises(Problem, match="cannot be evaluated") as caught:
        holds(condition, query("[a]"))
    assert caught.value.kind is ProblemType.STAGE_FAILED
    assert condition in caught.value.detail


def test_a_switch_takes_the_first_case_that_holds_else_the_default() -> None:
    steps = '[{switch: [{when: "tenant == \'a\'", then: [x]}, {when: "true", then: [y]}], default: [z]}, end]'
    assert way(query(steps, tenant="a")) == ["x", "end"]
    assert way(query(steps, tenant="b")) == ["y", "end"]
    assert way(query('[{switch: [{when: "false", then: [x]}], default: [z]}]')) == ["z"]
    assert way(query('[{switch: [{when: "false", then: [x]}]}]')) == []


def test_a_splitter_sends_the_same_query_the_same_way_and_shares_them_by_weight() -> None:
    steps = "[{splitter: [{weight: 3, then: [x]}, {weight: 1, then: [y]}, {weight: 0, then: [z]}]}]"
    ways = Counter(way(query(steps, id=f"q{n}"))[0] for n in range(400))
    assert ways["x"] + ways["y"] == 400
    assert 250 < ways["x"] < 350
    assert way(query(steps, id="q7")) == way(query(steps, id="q7").resubmitted())
    assert way(query(steps, id="shadow", notes={"shadow_of": "q7"})) == way(query(steps, id="q7"))


def test_two_splitters_draw_apart() -> None:
    half = "{splitter: [{weight: 1, then: [x]}, {weight: 1, then: [y]}]}"
    ways = {tuple(way(query(f"[{half}, {half}]", id=f"q{n}"))) for n in range(50)}
    assert len(ways) == 4


def test_a_loop_goes_round_until_its_condition_holds_and_never_more_often_than_it_may() -> None:
    steps = "[{loop: [retrieve, judge], until: notes.enough, times: 3}, generate]"
    assert way(query(steps), enough=True) == ["retrieve", "judge", "generate"]
    assert way(query(steps), enough=False) == [*["retrieve", "judge"] * 3, "generate"]


def test_a_refusal_ends_the_query_whatever_fallback_it_is_in() -> None:
    asked = query("[{fallback: [{refuse: 'Not that.'}], otherwise: [x]}]")
    with pytest.raises(RefusedError, match="Not that") as caught:
        resolved(asked)
    assert caught.value.kind is ProblemType.INVALID_QUESTION
    assert fallen_back(asked, caught.value, None) is None


def test_a_step_that_fails_is_replaced_by_the_other_steps_and_what_follows() -> None:
    at_a = resolved(query("[{fallback: [a, b], otherwise: [c]}, d]"))
    other = fallen_back(at_a, FAILURE, hop("a"))
    assert other is not None
    assert [stop.stage for stop in other.slip] == ["c", "d"]
    assert [hop.stage for hop in other.trail] == ["a"]
    assert other.notes["failed"] == {"stage": "a", "variant": "default", "problem": "engine-failed"}
    assert holds("failed.problem == 'engine-failed'", other)
    assert fallen_back(other, FAILURE, hop("c")) is None
    assert way(at_a) == ["a", "b", "d"]


def test_the_innermost_fallback_comes_first_and_one_whose_time_is_over_before_it() -> None:
    nested = "[{fallback: [{fallback: [a], otherwise: [b]}], otherwise: [c], seconds: %s}]"
    inner = fallen_back(resolved(query(nested % "60")), FAILURE, None)
    assert inner is not None
    assert inner.slip[0].stage == "b"
    again = fallen_back(inner, FAILURE, None)
    assert again is not None
    assert [stop.stage for stop in again.slip] == ["c"]
    late = resolved(query(nested % "1e-9"))
    assert limit(late) < late.deadline
    outer = fallen_back(late, FAILURE, None)
    assert outer is not None
    assert [stop.stage for stop in outer.slip] == ["c"]


def test_without_a_fallback_the_limit_is_the_deadline() -> None:
    plain = query("[a]")
    assert limit(plain) == plain.deadline
    assert fallen_back(plain, FAILURE, hop("a")) is None
