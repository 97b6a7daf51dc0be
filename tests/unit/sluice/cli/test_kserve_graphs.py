"""KServe's graphs as pipelines: what comes of each router, what is noted, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.contracts.graphs import stages
from shared.contracts.graphs.written import read_pipelines
from sluice.cli.kserve_graphs import ImportedGraph, Models, graphs_of, pipelines_yaml
from sluice.cli.yaml_files import YamlFileError, read_documents

HEAD = "apiVersion: serving.kserve.io/v1alpha1\nkind: InferenceGraph\nmetadata: {name: graph}\n"


def imported(tmp_path: Path, nodes: str, head: str = HEAD, **models: Any) -> ImportedGraph:
    file = tmp_path / "graph.yaml"
    file.write_text(f"{head}spec:\n  nodes:\n{nodes}")
    (graph,) = graphs_of(read_documents(file), Models(**{"input": "text", **models}))
    # The gateway takes it.
    read_pipelines(yaml.safe_load(pipelines_yaml([graph], ["generate"])))
    return graph


def call(model: str, name: str = "text") -> dict[str, Any]:
    return {"stage": "predict", "params": {"model": model, "texts": {name: "question"}}}


def test_a_sequence_is_its_steps(tmp_path: Path) -> None:
    graph = imported(
        tmp_path,
        "    root: {routerType: Sequence, steps: [{serviceName: a}, {nodeName: more, data: $request}]}\n"
        "    more:\n"
        "      routerType: Sequence\n"
        "      steps: [{serviceName: b, dependency: Hard}, {serviceName: c, dependency: Soft}]\n",
        inputs={"b": "question"},
    )
    assert graph.steps == [call("a"), call("b", "question"), {"fallback": [call("c")], "otherwise": []}]
    assert (graph.name, graph.notes) == ("graph", [])


def test_a_condition_in_a_sequence_ends_it_where_it_does_not_hold(tmp_path: Path) -> None:
    graph = imported(
        tmp_path,
        "    root: {routerType: Sequence, steps: [{nodeName: guarded}, {serviceName: last}]}\n"
        "    guarded:\n"
        "      routerType: Sequence\n"
        "      steps:\n"
        "        - serviceName: a\n"
        "        - {serviceName: b, condition: predictions.#(score>0.5)}\n"
        "        - serviceName: c\n",
    )
    when = '"score" in outputs and len(outputs.score) > 0 and max(outputs.score) > 0.5'
    assert graph.steps == [call("a"), {"switch": [{"when": when, "then": [call("b"), call("c")]}]}, call("last")]


def test_a_switch_takes_the_first_case_and_refuses_without_one(tmp_path: Path) -> None:
    graph = imported(
        tmp_path,
        "    root:\n"
        "      routerType: Switch\n"
        "      steps:\n"
        '        - {serviceName: a, condition: "[@this].#(source==client)"}\n'
        "        - {nodeName: shares, condition: staff}\n"
        "    shares: {routerType: Splitter, steps: [{serviceName: b, weight: 30}, {serviceName: c, weight: 70}]}\n",
    )
    assert graph.steps == [
        {
            "switch": [
                {"when": '"source" in metadata and metadata.source == "client"', "then": [call("a")]},
                {
                    "when": '"staff" in metadata',
                    "then": [{"splitter": [{"weight": 30, "then": [call("b")]}, {"weight": 70, "then": [call("c")]}]}],
                },
            ],
            "default": [{"refuse": "None of the conditions holds for this request."}],
        }
    ]


def test_a_switch_that_gets_a_response_looks_at_the_outputs(tmp_path: Path) -> None:
    nodes = (
        "    root: {routerType: Sequence, steps: [{serviceName: a}, {nodeName: choice, data: $response}]}\n"
        "    choice: {routerType: Switch, steps: [{serviceName: b, condition: 'predictions.#(label==x)'}]}\n"
    )
    graph = imported(tmp_path, nodes)
    assert graph.steps[1]["switch"][0]["when"] == '"label" in outputs and "x" in outputs.label'
    (note,) = graph.notes
    assert note.endswith("graph.yaml:7:42: b gets the question, and not the response of a model before")
    between = "routerType: Sequence, steps: [{serviceName: c}, {nodeName: late}]}\n    late: {"
    later = nodes.replace("choice: {", f"choice: {{{between}")
    with pytest.raises(YamlFileError, match="only the last is known here"):
        imported(tmp_path, later)


def test_an_ensemble_has_a_branch_for_each_step(tmp_path: Path) -> None:
    graph = imported(
        tmp_path,
        "    root:\n"
        "      routerType: Ensemble\n"
        "      steps:\n"
        "        - {name: small, serviceName: a}\n"
        "        - {name: Large_Model, serviceName: b, dependency: Soft}\n"
        "        - {serviceName: c}\n",
    )
    assert graph.steps == [
        {
            "ensemble": [
                {"name": "small", "then": [call("a")]},
                {"name": "large-model", "then": [{"fallback": [call("b")], "otherwise": []}]},
                {"name": "step-2", "then": [call("c")]},
            ]
        }
    ]
    assert [note.rpartition(": ")[2] for note in graph.notes] == [
        "the branch is called large-model",
        "the branch is called step-2",
    ]
    assert read_pipelines(yaml.safe_load(pipelines_yaml([graph])))


def test_what_is_not_carried_over_is_noted_with_its_place(tmp_path: Path) -> None:
    graph = imported(
        tmp_path,
        "    root:\n"
        "      routerType: Sequence\n"
        "      steps:\n"
        "        - {serviceUrl: 'http://a/?x=1', mapPredictionsToInstances: true, retries: 3}\n"
        "  timeout: 5\n"
        "  minReplicas: 2\n",
        HEAD.replace("name: graph", f"name: Graph.of.{'x' * 40}"),
        urls={"http://a/?x=1": "a"},
    )
    assert graph.steps == [call("a")]
    assert graph.name == "graph-of-" + "x" * 23
    assert [note.partition(": ")[0].rpartition("graph.yaml")[2] for note in graph.notes] == [
        ":10:3",
        ":11:3",
        ":9:74",
        ":9:41",
        ":3:12",
    ]
    text = pipelines_yaml([graph])
    assert text.startswith(f"# {graph.name}: not carried over\n# - ")
    assert set(yaml.safe_load(text)["pipelines"]) == {graph.name}


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("    other: {routerType: Switch}\n", "there is no node 'root'"),
        ("    root: {routerType: Router, steps: [{serviceName: a}]}\n", ":6:5: routerType is 'Router'"),
        (
            "    root: {routerType: Sequence, steps: [{nodeName: all}, {serviceName: b, condition: 'label'}]}\n"
            "    all: {routerType: Ensemble, steps: [{serviceName: a}]}\n",
            "only the last is known here",
        ),
        ("    root: {routerType: Sequence}\n", ":6:5: a node has a list of steps"),
        ("    root: [1]\n", ":6:5: a node is an object"),
        ("    root: {routerType: Sequence, steps: [{nodeName: root}]}\n", "the node 'root' leads to itself"),
        ("    root: {routerType: Sequence, steps: [{nodeName: b}]}\n", ":6:43: there is no node 'b'"),
        ("    root: {routerType: Sequence, steps: [{name: a}]}\n", ":6:42: a step has one of"),
        ("    root: {routerType: Sequence, steps: [{serviceName: a, nodeName: b}]}\n", "a step has one of"),
        ("    root: {routerType: Sequence, steps: [{serviceName: a b}]}\n", ":6:43: 'a b' cannot be the name"),
        ("    root: {routerType: Sequence, steps: [{serviceUrl: 'http://a'}]}\n", "--model 'http://a=NAME'"),
        ("    root: {routerType: Sequence, steps: [{serviceName: a, condition: x}]}\n", "has no response to look at"),
        ("    root: {routerType: Switch, steps: [{serviceName: a}]}\n", "a step of a Switch has a condition"),
        (
            "    root: {routerType: Switch, steps: [{serviceName: a, condition: a.b}]}\n",
            ":6:57: the condition a.b: only",
        ),
        ("    root: {routerType: Splitter, steps: [{serviceName: a}]}\n", "has a weight from 0 to 100"),
        ("    root: {routerType: Splitter, steps: [{serviceName: a, weight: 99}]}\n", "the weights are 99 in all"),
    ],
)
def test_what_would_mean_something_else_is_refused_with_its_place(tmp_path: Path, nodes: str, said: str) -> None:
    with pytest.raises(YamlFileError) as caught:
        imported(tmp_path, nodes)
    assert said in str(caught.value)


def test_nodes_that_multiply_are_bounded(tmp_path: Path) -> None:
    nodes = "".join(
        f"    {'root' if level == 0 else f'n{level}'}: {{routerType: Sequence, steps: "
        f"[{{nodeName: n{level + 1}}}, {{nodeName: n{level + 1}}}]}}\n"
        for level in range(30)
    )
    with pytest.raises(YamlFileError, match="more than 200 steps"):
        imported(tmp_path, nodes + "    n30: {routerType: Sequence, steps: [{serviceName: a}]}\n")


def test_a_file_may_have_other_documents_and_several_graphs(tmp_path: Path) -> None:
    graph = f"{HEAD}spec: {{nodes: {{root: {{routerType: Sequence, steps: [{{serviceName: a}}]}}}}}}\n"
    file = tmp_path / "graphs.yaml"
    file.write_text(f"kind: InferenceService\n---\n{graph}---\n---\n{graph.replace('graph}', 'other}')}")
    found = graphs_of(read_documents(file), Models(input="text"))
    assert [one.name for one in found] == ["graph", "other"]
    with pytest.raises(YamlFileError, match="two graphs would be the pipeline graph"):
        pipelines_yaml([*found, found[0]])
    file.write_text("kind: InferenceService\n")
    with pytest.raises(YamlFileError, match="no document of the kind InferenceGraph"):
        graphs_of(read_documents(file), Models(input="text"))


def test_the_example_is_a_pipeline() -> None:
    (graph,) = graphs_of(read_documents(Path("examples/graphs/inference-graph.yaml")), Models(input="text"))
    named = read_pipelines(yaml.safe_load(pipelines_yaml([graph], ["embed", "retrieve", "generate"])))
    assert {stop.stage for stop in stages(named["moderation"])} == {"predict", "embed", "retrieve", "generate"}
