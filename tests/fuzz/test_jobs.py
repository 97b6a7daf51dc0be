"""Jobs: specs, pipelines and their expressions, as people write them and as they lie on the queue."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.scheduler.jobs.job_context import JobContext
from shared.contracts.jobs import DeleteSpec, JobOptions, JobState, PipelineSpec, decode_spec
from shared.contracts.pipelines import ExpressionError, PipelineError, check_pipeline, parse, resolve
from shared.nats.subjects import JOBS
from shared.stores.dead_letters import REPLAYED
from shared.stores.jobs.store import ATTEMPT, OPTIONS
from tests.fuzz.hypothesis_runner import example_began, fuzzed, outcome, saw
from tests.fuzz.values import bent, bent_bytes, json_bytes, odd_texts, odd_values
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness
from tests.harness.paths import WIRE
from tests.harness.stage_harness import settle, until

SPECS: list[Any] = json.loads((WIRE / "specs.json").read_text())
PIPELINE: dict[str, Any] = {
    "kind": "pipeline",
    "name": "nightly",
    "parameters": {"folder": "/d", "minimum": 0.9, "names": ["a", "b"], "on": True, "later": None, "big": 10**400},
    "steps": {
        "ingest": {"job": {"kind": "ingest", "collection": "c", "source": {"type": "folder", "path": "x"}}},
        "build": {
            "job": {"kind": "reindex", "collection": "c", "switch": False},
            "needs": ["ingest"],
            "when": "ingest.indexed > 0",
        },
        "evaluate": {
            "job": {"kind": "evaluate", "input": "a/q.jsonl", "collection": "c", "version": "${{ build.version }}"},
            "each": "parameters.names",
            "retry": {"limit": 2},
        },
        "switch": {
            "job": {"kind": "switch", "collection": "${{ parameters.names[0] }}", "version": "${{ build.version }}"},
            "when": "evaluate.recall_at_5[0] >= parameters.minimum",
            "timeout": 60,
        },
    },
    "outputs": {"version": "${{ build.version }}", "text": "at ${{ evaluate.mrr }}"},
}
NAMES = ("kind", "collection", "steps", "needs", "when", "each", "job", "parameters", "outputs", "source", "switch")


@fuzzed(120)
@given(value=bent([*SPECS, PIPELINE], names=NAMES))
@example(value={**SPECS[0], "collection": "\ud800"})
def test_any_json_is_a_job_spec_or_a_validation_error(value: Any) -> None:
    example_began()
    data = json_bytes(value)
    for given_as in (data, value):
        spec = outcome(lambda given_as=given_as: decode_spec(given_as), ValidationError)  # type: ignore[misc]
        if isinstance(spec, ValidationError):
            saw("refused")
            if "recursion limit" in str(spec):
                return  # no JSON brings a dict that is as deep
            continue
        saw(spec.kind)
        # Members that nobody knows are ignored in what has come over the wire.
        sent = decode_spec(spec.model_dump_json().encode()).model_dump_json().encode()
        assert decode_spec(sent).model_dump_json().encode() == sent


# Expressions


SCOPE: dict[str, Any] = {
    "parameters": {"minimum": 0.9, "names": ["a", "b"], "on": True, "big": 10**400, "deep": [[[1]]], "none": None},
    "evaluate": {"recall_at_5": 0.93, "questions": 40, "report": {"worst": "q7"}, "state": "succeeded"},
    "item": "docs",
    "index": 3,
}
atoms = st.sampled_from(
    [
        *("item", "index", "parameters", "parameters.names", "parameters.big", "parameters.deep", "parameters.none"),
        *(
            "evaluate.recall_at_5",
            "evaluate.report",
            "evaluate['report']['worst']",
            "evaluate",
            "nothing",
            "true",
            "null",
        ),
        *("0", "1", "-1", "2.5", "1e308", "9007199254740992", "'x'", "''", "'a\\n'", "[]", "1_000", "0x10", "1e999"),
    ]
)
operators = st.sampled_from(
    [
        *("+", "-", "*", "/", "//", "%", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"),
        *("**", "is", "@"),
    ]
)
functions = st.sampled_from(["len", "min", "max", "sum", "abs", "round", "text", "open", "str"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        st.tuples(inner, operators, inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})")
        | st.tuples(inner, operators, inner, operators, inner).map(" ".join)
        | st.tuples(functions, st.lists(inner, max_size=3)).map(lambda call: f"{call[0]}({', '.join(call[1])})")
        | st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.tuples(inner, inner).map(lambda two: f"{two[0]}[{two[1]}]")
        | st.tuples(inner, inner, inner).map(lambda three: f"{three[0]} if {three[1]} else {three[2]}")
        | inner.map(lambda one: f"not {one}")
        | inner.map(lambda one: f"-{one}")
        | inner.map(lambda one: f"{one}.worst")
        | inner.map(lambda one: f"(lambda: {one})")
    )


LONG_RUNS = ("-", "~", "not ", "(", "[", "lambda:", "1+", "1 if ", "a.", "f(", "a[")
expressions = (
    st.recursive(atoms, _larger, max_leaves=10)
    | st.builds(
        lambda head, run, count, tail: (head + run * count + tail)[:1000],
        st.sampled_from(["", "lambda:", "[", "len(", "{", "f'"]),
        st.sampled_from(LONG_RUNS),
        st.integers(1, 1000),
        st.sampled_from(["1", "a", "", "1)", "1]"]),
    )
    | st.text("()[]{}.,+-*/%<>=!'\"\\abn1 \n0_:#~@$é\0", max_size=30)
)


@fuzzed(200)
@given(text=expressions)
@example(text="lambda:" + "-" * 990 + "1")
@example(text="[1] in parameters")
@example(text="parameters.big * 1.5")
@example(text="parameters.big / 3")
@example(text="round(5, -9007199254740991)")
@example(text="round(2.5, 9007199254740991)")
def test_any_text_is_an_expression_with_a_small_value_or_an_expression_error(text: str) -> None:
    example_began()
    expression = outcome(lambda: parse(text), ExpressionError)
    if isinstance(expression, ExpressionError):
        saw("refused")
        assert len(str(expression)) < 1000
        return
    value = outcome(lambda: expression.evaluate(SCOPE), ExpressionError)
    if isinstance(value, ExpressionError):
        saw("has no value")
        return
    saw(type(value).__name__)
    assert len(json.dumps(value, allow_nan=False)) < 1_000_000


templates = bent(
    [PIPELINE["steps"]["switch"], {"a": ["${{ item }}", "x ${{ index }} y ${{parameters.names}}"], "b": "${{"}],
    extra=odd_values | expressions.map(lambda text: "${{" + text + "}}"),
)


@fuzzed(80)
@given(template=templates)
@example(template={"a": "n: ${{ parameters.big }}"})
def test_a_template_is_filled_in_or_an_expression_error(template: Any) -> None:
    example_began()
    filled = outcome(lambda: resolve(template, SCOPE), ExpressionError)
    saw("refused" if isinstance(filled, ExpressionError) else "filled in")
    if "${{" not in json.dumps(template):
        assert json.dumps(filled) == json.dumps(template)


pieces = odd_values | expressions | expressions.map(lambda text: "${{" + text + "}}") | st.sampled_from(NAMES)


@fuzzed(100)
@given(value=bent([PIPELINE], extra=pieces, names=NAMES))
@example(value={**PIPELINE, "steps": {"a": {"job": {"kind": "switch", "collection": "${{ [1] in parameters }}"}}}})
@example(value={**PIPELINE, "steps": {"a": {"job": {"kind": "switch", "collection": "${{ parameters.big / 2 }}"}}}})
def test_a_pipeline_can_be_planned_or_its_faults_are_told(value: Any) -> None:
    example_began()
    spec = outcome(lambda: decode_spec(value), ValidationError)
    if not isinstance(spec, PipelineSpec):
        saw("refused")
        return
    plan = outcome(lambda: check_pipeline(spec), PipelineError)
    if isinstance(plan, PipelineError):
        saw("faults")
        assert plan.faults
        return
    saw("planned")
    assert sorted(plan.order) == sorted(spec.steps)
    for place, name in enumerate(plan.order):
        assert plan.needs[name] <= set(plan.order[:place])
        assert plan.reads[name] <= plan.needs[name]


# On the queue


@pytest.fixture(scope="module")
def job_harness(portal: BlockingPortal, broker: NatsServer) -> Iterator[JobHarness]:
    """A real job queue with workers that do nothing with any job."""

    async def perform(_: JobContext) -> None: ...

    kinds = dict.fromkeys([spec["kind"] for spec in SPECS], perform)
    with (
        portal.wrap_async_context_manager(open_job_harness(broker.url)) as job_harness,
        portal.wrap_async_context_manager(job_harness.working(kinds)),
    ):
        yield job_harness


CHOSEN = JobOptions(labels={"a": "b"}, by="me").model_dump(mode="json")
words = odd_texts.filter(
    lambda text: text.isprintable() and len(text) < 1000 and not re.search("[\ud800-\udfff]", text)
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "ce-id": words | st.sampled_from(["j1", "j2", "x" * 64, "x" * 65, "a.b"]),
        "ce-tenant": words | st.sampled_from(["acme", "default"]),
        OPTIONS: bent_bytes([CHOSEN]).map(lambda data: data.decode("ascii", "replace")) | st.just(json.dumps(CHOSEN)),
        ATTEMPT: words.filter(lambda text: not text.isdecimal()) | st.sampled_from(["1", "0", "-1", "9" * 5000, "1.5"]),
        REPLAYED: words,
        "ce-by": words,
    },
).map(lambda found: {name: value for name, value in found.items() if value.isprintable()})


@fuzzed(8)
@given(rubbish=st.lists(st.tuples(bent_bytes(SPECS, names=NAMES), headers), max_size=10))
def test_the_job_queue_sees_all_that_is_on_it_to_an_end(
    portal: BlockingPortal, job_harness: JobHarness, rubbish: list[tuple[bytes, dict[str, str]]]
) -> None:
    example_began()

    async def nothing_waits() -> bool:
        return (await job_harness.bus.jetstream.stream_info(JOBS)).state.messages == 0

    async def put_and_do() -> None:
        for number, (data, extra) in enumerate(rubbish):
            kind = SPECS[number % len(SPECS)]["kind"]
            await job_harness.bus.client.publish(f"job.{kind}.normal.default", data, headers=extra or None)
        await settle(job_harness.bus.client)
        job = f"good-{len(rubbish)}-{hash(str(rubbish)) & 0xFFFFFFFF}"
        await job_harness.submit(DeleteSpec(collection="c", documents=()), job)
        assert (await job_harness.ended(job)).state is JobState.SUCCEEDED
        await until(nothing_waits, "an empty job queue")

    portal.call(put_and_do)
    saw(f"{len(rubbish)} before a job")
