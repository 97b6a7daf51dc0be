"""Parallel branches: what becomes of an envelope, decided from how its branches have ended."""

import time
from typing import Any

import pytest
import yaml

from shared.contracts.envelope import Hop, Passage, Query
from shared.contracts.graphs import Ensemble, Join, control_of, fallen_back, limit, resolved
from shared.contracts.graphs.conditions import holds
from shared.contracts.graphs.joins import JoinRecord, Verdict, after_branch, merged, refused, split
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferenceOutcome, InferResponse, Tensor, pack_bytes

FAILURE = Problem(ProblemType.ENGINE_FAILED, "It failed.")
THREE = """
- ensemble: [{name: a, then: [one]}, {name: b, then: [two], seconds: 5}, {name: c, then: [three]}]
  %s
- last
"""


def query(steps: str, **members: Any) -> Query:
    slip = read_pipelines({"pipelines": {"p": yaml.safe_load(steps)}})["p"]
    now = time.time()
    return Query(**{"id": "q", "asked_at": now, "deadline": now + 60, "reply": "r", "slip": slip, **members})


def parted(asked: Query, known_as: str = "q:0.graph:1") -> tuple[str, JoinRecord, tuple[Query, ...]]:
    asked = resolved(asked)
    ensemble = control_of(asked.stop)
    assert isinstance(ensemble, Ensemble)
    return split(asked, ensemble, known_as)


def visited(branch: Query) -> Query:
    """The envelope after the stage at the head of its slip."""
    stop = branch.stop
    return branch.advance(Hop(stage=stop.stage, variant=stop.variant, worker="w", waited_ms=0, worked_ms=0))


def end(record: JoinRecord, ended: Query) -> JoinRecord:
    ended = resolved(ended)
    join = control_of(ended.stop)
    assert isinstance(join, Join)
    return after_branch(record, ended, join)


def broken(branch: Query, problem: Problem = FAILURE) -> Query:
    other = fallen_back(branch, problem, None)
    assert other is not None
    return other


def passage(name: str, score: float) -> Passage:
    return Passage(id=name, document_id=name, document=name, position=0, text=name, score=score)


def test_each_branch_goes_its_own_way_under_a_name_of_its_own() -> None:
    asked = query(THREE % "")
    key, record, branches = parted(asked)
    assert [branch.stop.stage for branch in branches] == ["one", "two", "three"]
    assert len({branch.branch for branch in branches}) == 3
    assert all(branch.branch.startswith(key.split(".", 2)[2]) for branch in branches)
    assert record.before is not None
    assert [stop.stage for stop in record.before.slip] == ["last"]
    assert limit(branches[0]) == asked.deadline
    assert limit(branches[1]) < time.time() + 5.1


def test_the_message_that_an_ensemble_takes_the_place_of_tells_it_from_others() -> None:
    asked = query(THREE % "")
    assert parted(asked, "one")[0] == parted(asked, "one")[0] != parted(asked, "two")[0]


def test_a_branch_of_another_way_does_not_count() -> None:
    _, record, _ = parted(query(THREE % ""))
    _, _, (other,) = parted(query("- ensemble: [{name: d, then: [four]}]"))
    assert end(record, visited(other)) is record


@pytest.mark.parametrize(
    ("rules", "ends", "expected"),
    [
        ("", "ok ok", Verdict.OPEN),
        ("", "ok ok ok", Verdict.MERGED),
        ("", "ok bad", Verdict.FAILED),
        ("quorum: 2", "ok ok", Verdict.OPEN),
        ("quorum: 2", "ok bad ok", Verdict.MERGED),
        ("quorum: 2", "bad ok bad", Verdict.FAILED),
        ("quorum: 2", "bad bad", Verdict.FAILED),
        ("{quorum: 2, early: true}", "ok ok", Verdict.MERGED),
        ("{quorum: 1, early: true}", "bad", Verdict.OPEN),
        ("{quorum: 1, early: true}", "bad ok", Verdict.MERGED),
    ],
)
def test_the_ends_of_branches_decide(rules: str, ends: str, expected: Verdict) -> None:
    written = yaml.safe_load(THREE % "")
    written[0] |= yaml.safe_load(rules) or {}
    _, record, branches = parted(query(yaml.safe_dump(written)))
    for branch, how in zip(branches, ends.split(), strict=False):
        record = end(record, visited(branch) if how == "ok" else broken(branch))
    assert record.verdict is expected


def test_a_branch_ends_once_and_none_ends_after_the_verdict() -> None:
    _, record, (a, b, c) = parted(query(THREE % "early: true\n  quorum: 2"))
    record = end(record, visited(a))
    assert end(record, broken(a)) is record
    record = end(record, visited(b))
    assert record.verdict is Verdict.MERGED
    assert end(record, visited(c)) is record


def test_passages_come_together_by_score_and_the_rest_in_the_written_order() -> None:
    _, record, (a, b, c) = parted(
        query(THREE % "", passages=(passage("old", 0.9),), notes={"kept": 1, "said": "before"})
    )
    tensor = Tensor(name="label", datatype=Datatype.BYTES, shape=(1,), data=pack_bytes([b"bad"]))
    judged = c.with_inference(InferenceOutcome(response=InferResponse(model="m", outputs=(tensor,))))
    record = end(record, visited(judged.model_copy(update={"notes": {**c.notes, "said": "c"}})))
    record = end(record, visited(b.with_passages([passage("x", 0.5), passage("z", 0.2)]).with_embedding(b"bbbb")))
    found = a.with_passages([passage("y", 0.4), passage("x", 0.3)]).with_embedding(b"aaaa")
    record = end(record, visited(found.model_copy(update={"notes": {**a.notes, "said": "a"}})))
    whole = merged(record)
    assert [(each.id, each.score) for each in whole.passages] == [("x", 0.5), ("y", 0.4)]
    assert whole.embedding == b"bbbb"
    assert whole.notes == {"kept": 1, "said": "c"}
    assert [(hop.stage, hop.branch) for hop in whole.trail] == [("one", "a"), ("two", "b"), ("three", "c")]
    assert [stop.stage for stop in whole.slip] == ["last"]
    assert whole.branch == ""
    assert merged(JoinRecord.model_validate_json(record.model_dump_json())) == whole
    for condition in (
        "branches.c.outputs.label[0] == 'bad'",
        "outputs.label[0] == 'bad'",
        "branches.a.best == 0.4 and branches.a.passages == 2",
        "branches.a.notes.said == 'a' and 'problem' not in branches.a.failed",
    ):
        assert holds(condition, whole)


def test_what_no_branch_changed_stays() -> None:
    _, record, branches = parted(query(THREE % "", passages=(passage("old", 0.9),), embedding=b"abcd"))
    for branch in branches:
        record = end(record, visited(branch))
    whole = merged(record)
    assert [each.id for each in whole.passages] == ["old"]
    assert whole.embedding == b"abcd"


def test_a_failed_branch_is_known_by_name_and_adds_nothing() -> None:
    _, record, (a, b, c) = parted(query(THREE % "quorum: 1"))
    record = end(end(end(record, visited(a)), broken(b.with_passages([passage("x", 0.5)]))), visited(c))
    whole = merged(record)
    assert whole.passages == ()
    assert holds("branches.b.failed.problem == 'engine-failed' and branches.b.failed.stage == 'two'", whole)


def test_an_ensemble_that_fails_says_which_branch_failed_and_how() -> None:
    _, record, (a, b, _) = parted(query(THREE % "quorum: 2"))
    problem = refused(end(end(record, broken(b, Problem(ProblemType.QUEUE_FULL, "Full."))), broken(a)))
    assert problem.kind is ProblemType.ENGINE_FAILED
    assert "2 of 3 parallel branches" in problem.detail
    assert "Branch 'a': It failed." in problem.detail


def test_branches_within_branches_join_one_after_the_other() -> None:
    text = "- ensemble: [{name: out, then: [{ensemble: [{name: in, then: [one]}]}, two]}, {name: side, then: [three]}]"
    _, outer, (out, side) = parted(query(text))
    _, inner, (within,) = parted(out)
    assert within.branch.startswith(f"{out.branch}.")
    joined = merged(end(inner, visited(within)))
    assert (joined.branch, joined.stop.stage) == (out.branch, "two")
    whole = merged(end(end(outer, visited(joined)), visited(side)))
    assert [(hop.stage, hop.branch) for hop in whole.trail] == [("one", "out/in"), ("two", "out"), ("three", "side")]
    assert whole.results is not None
    assert set(whole.results.branches) == {"in", "out", "side"}


def test_a_fallback_within_a_branch_comes_before_the_end_of_the_branch() -> None:
    _, record, (branch,) = parted(query("- ensemble: [{name: a, then: [{fallback: [one], otherwise: [two]}]}]"))
    other = fallen_back(resolved(branch), FAILURE, None)
    assert other is not None
    assert other.stop.stage == "two"
    assert end(record, broken(other)).verdict is Verdict.FAILED
