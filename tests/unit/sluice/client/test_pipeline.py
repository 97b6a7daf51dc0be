"""Pipelines that are built in Python say what their YAML says."""

import ast
import runpy
from typing import Any, cast

import pytest

from shared.contracts.jobs import PipelineSpec, decode_spec
from shared.contracts.pipelines import check_pipeline, condition, parse
from shared.contracts.pipelines.templates import replaced
from sluice import Pipeline
from sluice.cli.yaml_files import read_yaml
from sluice.client.pipeline import ITEM
from tests.harness.paths import EXAMPLES

NIGHTLY = EXAMPLES / "nightly"


class Flat(ast.NodeTransformer):
    """`(a and b) and c` as `a and b and c`."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.BoolOp:
        self.generic_visit(node)
        values = []
        for value in node.values:
            same = isinstance(value, ast.BoolOp) and isinstance(value.op, type(node.op))
            values += cast("ast.BoolOp", value).values if same else [value]
        return ast.BoolOp(op=node.op, values=values)


def written(text: str) -> str:
    """An expression as Python would write it, so that two that mean the same are the same."""
    return ast.unparse(Flat().visit(parse(text).node))


def same_form(spec: dict[str, Any]) -> dict[str, Any]:
    plain = cast("PipelineSpec", decode_spec({"kind": "pipeline", **spec})).model_dump(mode="json")
    formed: Any = replaced(plain, lambda expression: f"<{written(expression.text)}>")
    for step in formed["steps"].values():
        if step["when"] is not None:
            step["when"] = written(condition(step["when"]))
    return cast("dict[str, Any]", formed)


def made(pipeline: Pipeline) -> PipelineSpec:
    spec = decode_spec(pipeline.spec)
    assert isinstance(spec, PipelineSpec)
    check_pipeline(spec)
    return spec


def test_the_nightly_pipeline_in_python_is_the_one_in_yaml() -> None:
    nightly: Pipeline = runpy.run_path(str(NIGHTLY / "pipeline.py"))["nightly"]
    assert same_form(nightly.spec) == same_form(read_yaml(NIGHTLY / "pipeline.yaml").value)
    check_pipeline(cast("PipelineSpec", decode_spec(nightly.with_parameters(folder="/srv/docs"))))


@pytest.mark.parametrize(
    ("new", "live", "switches"),
    [
        ((0.9, 0.8), (0.9, 0.8), True),
        ((0.95, 0.9), (0.9, 0.8), True),
        ((0.89, 0.79), (0.9, 0.8), True),  # within the tolerance
        ((0.87, 0.8), (0.9, 0.8), False),
        ((0.9, 0.7), (0.9, 0.8), False),
        ((0.6, 0.6), (0.5, 0.5), False),  # better, and not good enough
    ],
)
def test_the_nightly_pipeline_switches_to_what_is_good_and_no_worse(
    new: tuple[float, float], live: tuple[float, float], switches: bool
) -> None:
    spec = read_yaml(NIGHTLY / "pipeline.yaml").value
    named = {name: dict(zip(("recall_at_5", "mrr"), of, strict=True)) for name, of in (("new", new), ("live", live))}
    assert parse(spec["steps"]["switch"]["when"]).evaluate({"parameters": spec["parameters"], **named}) is switches


def test_references_become_placeholders_and_expressions() -> None:
    pipeline = Pipeline("test", word="a", numbers=[1, 2])
    first = pipeline.step("first", "command", args=["${{ parameters.word }}"])
    each = pipeline.step(
        "each", "command", each=pipeline.numbers, parallel=2, retry={"limit": 2}, args=[ITEM, f"{ITEM}-{first.job}"]
    )
    pipeline.step(
        "last",
        "batch",
        needs=[each],
        when=(first.size + 1 > 3) & ~(pipeline.word == 'é"b') | (first.names[0] != "x"),
        cache=True,
        allow_failure=True,
        timeout=60,
        input=first.artifacts["lines.jsonl"],
    )
    pipeline.output("half", round(first.size / 2, 1))
    pipeline.output("word", (first.size >= 3).then("many of " + pipeline.word, None))
    spec = made(pipeline)
    steps = {name: step.model_dump(exclude_defaults=True) for name, step in spec.steps.items()}
    assert steps == {
        "first": {"job": {"kind": "command", "args": ["${{ parameters.word }}"]}},
        "each": {
            "job": {"kind": "command", "args": ["${{ item }}", "${{ item }}-${{ first.job }}"]},
            "each": "parameters.numbers",
            "parallel": 2,
            "retry": {"limit": 2},
        },
        "last": {
            "job": {"kind": "batch", "input": '${{ first.artifacts["lines.jsonl"] }}'},
            "needs": ("each",),
            "when": '(((first.size + 1) > 3) and (not (parameters.word == "é\\"b"))) or (first.names[0] != "x")',
            "cache": True,
            "allow_failure": True,
            "timeout": 60.0,
        },
    }
    assert parse(str(spec.outputs["half"])[4:-3]).evaluate({"first": {"size": 5}}) == 2.5
    assert parse(str(spec.outputs["word"])[4:-3]).evaluate({"first": {"size": 2}}) is None


def test_and_and_or_are_refused_as_they_would_decide_before_the_pipeline_runs() -> None:
    pipeline = Pipeline("test", on=True, fast=True)
    with pytest.raises(TypeError, match=r"join conditions by & and \|"):
        _ = pipeline.on and pipeline.fast


def test_what_cannot_be_built_is_said_at_once() -> None:
    pipeline = Pipeline("test", word="a")
    pipeline.step("one", "command")
    with pytest.raises(ValueError, match="has a step 'one' already"):
        pipeline.step("one", "command")
    with pytest.raises(AttributeError, match="no parameter 'world'"):
        _ = pipeline.world
    with pytest.raises(ValueError, match="no parameter 'world'"):
        pipeline.with_parameters(world=1)
    with pytest.raises(ValueError, match="cannot be called 'step'"):
        Pipeline("test", step=1)
