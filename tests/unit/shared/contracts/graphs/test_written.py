"""Pipelines as people write them become slips, and every mistake is told with its place."""

import re

import pytest
import yaml

from shared.contracts.envelope import Stop
from shared.contracts.graphs.nodes import control_of
from shared.contracts.graphs.walk import following, longest_slip, longest_trail, stages
from shared.contracts.graphs.written import read_pipelines, written

FILE = """
pipelines:
  plain: [embed, {stage: generate, variant: canary, params: {max_tokens: 3}}]
  all:
    - embed
    - switch:
        - {when: "best < 0.2", then: [{refuse: "Nothing is about that."}]}
      default: [rerank]
    - splitter: [{weight: 9, then: [own]}, {weight: 1}]
    - {loop: [retrieve, judge], until: notes.enough, times: 3}
    - {fallback: [generate], seconds: 10, otherwise: [{stage: generate, variant: small}]}
"""


def read(steps: str) -> tuple[Stop, ...]:
    return read_pipelines({"pipelines": {"p": yaml.safe_load(steps)}})["p"]


def test_a_pipeline_without_controls_is_the_slip_that_it_always_was() -> None:
    plain = read_pipelines(yaml.safe_load(FILE))["plain"]
    assert plain == (Stop(stage="embed"), Stop(stage="generate", variant="canary", params={"max_tokens": 3}))


def test_what_was_read_is_written_as_it_was() -> None:
    pipelines = read_pipelines(yaml.safe_load(FILE))
    assert read_pipelines({"pipelines": {name: written(steps) for name, steps in pipelines.items()}}) == pipelines


def test_the_stages_of_a_graph_are_known_and_which_may_follow_which() -> None:
    steps = read_pipelines(yaml.safe_load(FILE))["all"]
    assert [stop.stage for stop in stages(steps)] == [
        "embed", "rerank", "own", "retrieve", "judge", "generate", "generate"
    ]  # fmt: skip
    assert following(steps) == {
        ("", "embed"), ("embed", "rerank"), ("rerank", "own"), ("embed", "own"), ("own", "retrieve"),
        ("rerank", "retrieve"), ("embed", "retrieve"), ("retrieve", "judge"), ("judge", "retrieve"),
        ("judge", "generate"), ("generate", "generate"), ("generate", ""),
    }  # fmt: skip
    assert (longest_slip(steps), longest_trail(steps)) == (5, 11)


@pytest.mark.parametrize(
    ("steps", "mistake"),
    [
        (
            '[{switch: [{when: "bst < 1"}]}]',
            "p > stop 1 > switch > case 1 > when: there is no `bst`; known here: quest",
        ),
        ('[{switch: [{when: "best <"}]}]', "case 1 > when: this is no expression"),
        ("[a, {loop: [a], times: 99}]", "p > stop 2 > loop > times: Input should be less than or equal to 20"),
        ("[{loop: [{stge: a}], times: 2}]", "p > stop 1 > loop > stop 1 > stage: Field required"),
        ("[{stage: graph}]", "p > stop 1 > stage: 'graph' is no stage"),
        ("[{stage: a, variant: B}]", "p > stop 1 > variant: String should match"),
        ("[{splitter: [{weight: 0}]}]", "p > stop 1 > splitter: at least one weight must be above zero"),
        ("[{fallback: [a]}]", "p > stop 1 > fallback > otherwise: Field required"),
        ("[{fallback: [a], otherwise: [], seconds: 0}]", "seconds: Input should be greater than 0"),
        ("[{loop: [{loop: [a], times: 20}], times: 20}]", "would visit up to 400 stages; at most 200"),
        ("[" + "{loop: [" * 7 + "a" + "], times: 1}" * 7 + "]", "nested 7 deep; at most 6"),
        ("[" + "a, " * 15 + "{loop: [" + "a, " * 15 + "a], times: 1}]", None),
        ("[{fallback: [" + "a, " * 14 + "a], otherwise: []}" + ", a" * 14 + "]", "up to 30 steps would be ahead"),
        ("[]", "p: List should have at least 1 item"),
    ],
)
def test_a_mistake_is_told_with_its_place(steps: str, mistake: str | None) -> None:
    if mistake is None:
        assert read(steps)
        return
    with pytest.raises(ValueError, match="pipelines > p") as caught:
        read(steps)
    assert mistake in str(caught.value)


def test_a_control_of_a_newer_version_is_not_misread() -> None:
    with pytest.raises(Exception, match="not understood by this version"):
        control_of(Stop(stage="graph", variant="teleport"))


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("- ensemble: [{name: a, then: [x]}, {name: a}]", "two branches are named 'a'"),
        ("- ensemble: [{name: a}]\n  quorum: 2", "a quorum of 2 is more than the 1 branches"),
        ("- ensemble: [{name: a}]\n  early: true", "`early` needs a `quorum`"),
        (
            "- ensemble: [{name: a, then: [{fallback: [generate], otherwise: []}]}]",
            "branch 'a' has the stage 'generate'",
        ),
        ("- ensemble: [{then: [x]}]", "stop 1 > ensemble > branch 1 > name: Field required"),
        ("- {cache: [generate], seconds: 5}", "a cache has the stage 'generate'"),
        ("- {cache: [{cache: [x], seconds: 1}], seconds: 5}", "a cache is within a cache"),
        ("- {cache: [x]}", "stop 1 > cache > seconds: Field required"),
        ("- {cache: [x], seconds: 5, key: nothing}", "there is no `nothing`"),
    ],
)
def test_branches_and_caches_that_cannot_work_are_refused(text: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=re.escape(mistake)):
        read_pipelines({"pipelines": {"p": yaml.safe_load(text)}})


@pytest.mark.parametrize(
    "text",
    [
        "- ensemble: [{name: a, then: [x], seconds: 2.0}, {name: b, then: []}]\n  quorum: 1\n  early: true",
        "- {cache: [x, {stage: retrieve, params: {top_k: 2}}], seconds: 5.0, key: folded}",
    ],
)
def test_branches_and_caches_are_written_as_they_were_read(text: str) -> None:
    steps = yaml.safe_load(text)
    assert written(read_pipelines({"pipelines": {"p": steps}})["p"]) == steps


@pytest.mark.parametrize(
    "step",
    ["{ensemble: [{name: a}]}", "{cache: [{switch: [{when: best > 1}]}], seconds: 9}", "{switch: [{when: best > 1}]}"],
)
def test_rounds_that_visit_no_stage_are_counted_as_well(step: str) -> None:
    with pytest.raises(ValueError, match="would visit up to 400 stages"):
        read(f"[{{loop: [{{loop: [{step}], times: 20}}], times: 20}}]")


def ensembles(levels: int) -> object:
    """Ensembles of ensembles, 16 branches each, which are one object as an alias is."""
    step: object = "predict"
    for _ in range(levels):
        step = {"ensemble": [{"name": f"b{n}", "then": [step]} for n in range(16)]}
    return step


def contains_itself() -> object:
    loop: dict[str, object] = {"times": 2}
    loop["loop"] = [loop]
    return loop


def deep() -> object:
    step: object = "predict"
    for _ in range(5_000):
        step = {"loop": [step], "times": 1}
    return step


@pytest.mark.parametrize(
    ("step", "mistake"),
    [
        (ensembles(6), "more than 10,000 values, with its aliases written out"),
        (contains_itself(), "nested more than 100 levels deep"),
        (deep(), "nested more than 100 levels deep"),
    ],
    ids=["16 in 16", "itself", "deep"],
)
def test_what_grows_too_large_is_counted_before_anything_is_made_of_it(step: object, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        read_pipelines({"pipelines": {"p": [step, "generate"]}})
