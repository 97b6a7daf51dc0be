"""Pipelines are checked before they run."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.jobs import PipelineSpec
from shared.contracts.pipelines import PipelineError, check_pipeline

EVALUATE = {"kind": "evaluate", "input": "questions/a.jsonl"}
COMMAND = {"kind": "command", "args": ["true"]}


def faults(**members: Any) -> dict[str, str]:
    try:
        check_pipeline(PipelineSpec(name="test", **members))
    except PipelineError as error:
        return dict(error.faults)
    return {}


def fault(**members: Any) -> tuple[str, str]:
    (found,) = faults(**members).items()
    return found


def step(**members: Any) -> dict[str, Any]:
    return {"job": COMMAND, **members}


def test_what_a_step_refers_to_comes_before_it() -> None:
    plan = check_pipeline(
        PipelineSpec(
            name="test",
            steps={
                "d": {"job": {"kind": "command", "args": ["${{ a.x }}", "${{ steps.b.outputs.y }}"]}},
                "c": step(each="b.list", needs=["a"]),
                "b": step(when="a.state == 'failed'"),
                "a": step(),
            },
        )
    )
    assert plan.order == ("a", "b", "d", "c")
    assert plan.needs["d"] == {"a", "b"}
    assert plan.reads == {"a": set(), "b": set(), "c": {"b"}, "d": {"a", "b"}}


def test_steps_that_wait_for_each_other_are_named() -> None:
    steps = {"a": step(needs=["c"]), "b": step(when="a.x > 1"), "c": step(needs=["b"]), "d": step()}
    assert fault(steps=steps) == ("steps.a", "these steps wait for each other: a -> c -> b -> a")
    assert fault(steps={"a": step(needs=["a"])}) == ("steps.a", "these steps wait for each other: a -> a")


@pytest.mark.parametrize(
    ("members", "place", "complaint"),
    [
        ({"needs": ["b"]}, "steps.a.needs", "there is no step 'b'"),
        ({"when": "b.x > 1"}, "steps.a.when", "there is no 'b': known are parameters, pipeline, and the steps a, e"),
        ({"when": "steps.b.outputs.x > 1"}, "steps.a.when", "there is no step 'b'"),
        ({"when": "steps.e.mrr > 1"}, "steps.a.when", "write steps.e.outputs.mrr, or e.mrr"),
        ({"when": "e.recall > 1"}, "steps.a.when", "the step 'e' has no output 'recall'; it has recall_at_1"),
        ({"when": "e > 1"}, "steps.a.when", "name an output of it"),
        ({"when": "e.mrr"}, "steps.a.when", "is a number, not true or false"),
        ({"when": "e.mrr > 'x'"}, "steps.a.when", "is a text, not a number"),
        ({"when": "e.mrr == 'x'"}, "steps.a.when", "it never holds"),
        ({"when": "parameters.word >= 3"}, "steps.a.when", "is a number, not a text"),
        (
            {"when": "parameters.world == 3"},
            "steps.a.when",
            "'world'; the parameters are: word, unset",
        ),
        ({"when": "pipeline.date == 3"}, "steps.a.when", "pipeline.id and pipeline.name"),
        ({"when": "item == 3"}, "steps.a.when", "'item' is known in the job of a step with `each` only"),
        ({"when": "1 +"}, "steps.a.when", "no expression"),
        ({"each": "e.mrr"}, "steps.a.each", "is a number, not a list"),
        ({"each": 3}, "steps.a.each", "write a list"),
        ({"each": list(range(501))}, "steps.a.each", "at most 500 items"),
        ({"each": ["${{ nothing.x }}"]}, "steps.a.each[0]", "there is no 'nothing'"),
        ({"job": {"kind": "dance"}}, "steps.a.job.kind", "a step's kind is one of "),
        ({"job": {"kind": "pipeline"}}, "steps.a.job.kind", "a step's kind is one of "),
        ({"job": {"kind": "drop"}}, "steps.a.job.kind", "a step's kind is one of "),
        ({"job": {**EVALUATE, "topk": 3}}, "steps.a.job.topk", "Extra inputs are not permitted"),
        ({"job": {**EVALUATE, "top_k": 1000}}, "steps.a.job.top_k", "less than or equal to 100"),
        ({"job": {**EVALUATE, "top_k": "${{ parameters.word }}"}}, "steps.a.job.top_k", "valid integer"),
        ({"job": {**EVALUATE, "input": "${{ parameters.unset }}"}}, "steps.a.job.input", "'unset' has no value"),
        ({"job": {**EVALUATE, "input": "${{ item }}"}}, "steps.a.job.input", "'item' is known in"),
        ({"job": {**COMMAND, "args": ["a", "${{ b.x }}"]}}, "steps.a.job.args[1]", "there is no 'b'"),
        ({"job": {**COMMAND, "args": ["${{ e.mrr"]}}, "steps.a.job.args[0]", "does not end with '}}'"),
    ],
)
def test_a_fault_is_named_with_its_place(members: dict[str, Any], place: str, complaint: str) -> None:
    steps = {"a": step(**members), "e": {"job": EVALUATE}}
    found = fault(parameters={"word": "x", "unset": None}, steps=steps)
    assert found[0] == place
    assert complaint in found[1]


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        parameters={"a-b": 1},
        steps={"item": step(), "b": step(needs=["x"], when="3")},
        outputs={"m": {"deep": "${{ c.x }}"}},
    )
    assert set(found) == {"parameters.a-b", "steps.item", "steps.b.needs", "steps.b.when", "outputs.m.deep"}


@pytest.mark.parametrize(
    "job",
    [
        {**EVALUATE, "top_k": "${{ e.questions }}", "version": "${{ r.version }}"},
        {"kind": "ingest", "collection": "c", "source": {"type": "folder", "path": "${{ e.job }}/x"}},
        {"kind": "ingest", "collection": "c", "source": "${{ r.source }}"}
        | {"source": {"type": "folder", "path": "/x"}},
        {"kind": "command", "args": ["${{ parameters.number }}", "${{ e.mrr }}"], "env": {"N": "${{ e.questions }}"}},
        {"kind": "reindex", "collection": "${{ parameters.word }}", "chunk_tokens": "${{ parameters.number }}"},
    ],
)
def test_what_is_not_known_yet_is_no_fault(job: dict[str, Any]) -> None:
    steps = {"a": {"job": job}, "e": {"job": EVALUATE}, "r": {"job": {"kind": "reindex", "collection": "c"}}}
    assert faults(parameters={"word": "docs", "number": 64}, steps=steps) == {}


def test_a_step_that_is_switched_off_is_written_as_yaml_reads_it() -> None:
    assert faults(steps={"a": step(when=False), "b": step(when=True)}) == {}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Any graph of up to twelve steps, with cycles or without."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 12)))]
    return {name: draw(st.lists(st.sampled_from(names), max_size=4)) for name in names}


@given(graphs())
def test_a_graph_has_an_order_or_a_cycle_that_is_shown(graph: dict[str, list[str]]) -> None:
    spec = PipelineSpec(name="test", steps={name: step(needs=needs) for name, needs in graph.items()})
    try:
        order = check_pipeline(spec).order
    except PipelineError as error:
        ((_, message),) = error.faults
        cycle = message.rpartition(": ")[2].split(" -> ")
        assert cycle[0] == cycle[-1]
        assert all(after in graph[before] for before, after in pairwise(cycle))
    else:
        assert sorted(order) == sorted(graph)
        for name, needs in graph.items():
            assert all(order.index(need) < order.index(name) for need in needs)


@given(st.permutations([f"s{number}" for number in range(10)]), st.randoms(use_true_random=False))
def test_every_graph_without_a_cycle_is_taken(names: list[str], random: Any) -> None:
    graph = {name: random.sample(names[:at], random.randint(0, min(at, 3))) for at, name in enumerate(names)}
    plan = check_pipeline(PipelineSpec(name="test", steps={n: step(needs=graph[n]) for n in sorted(graph)}))
    assert len(plan.order) == 10
