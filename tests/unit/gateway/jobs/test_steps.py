"""The steps of a pipeline, as the HTTP API shows them."""

from services.gateway.jobs.steps import pipeline_steps
from shared.contracts.jobs import PipelineSpec, SwitchSpec
from shared.contracts.pipelines import PipelineState, StepState, StepStatus

SPEC = PipelineSpec.model_validate(
    {
        "name": "p",
        "steps": {
            "last": {"needs": ["first"], "when": "score.mrr > 0", "job": {"kind": "switch", "collection": "docs"}},
            "score": {"job": {"kind": "evaluate", "input": "a/b", "version": "${{ first.version }}"}},
            "first": {"job": {"kind": "reindex", "collection": "docs"}},
        },
    }
)


def test_each_step_names_the_steps_that_it_waits_for_also_those_of_its_expressions() -> None:
    needs = {step.step: step.needs for step in pipeline_steps(SPEC, None)}
    assert list(needs) == ["first", "score", "last"]
    assert needs == {"first": (), "score": ("first",), "last": ("first", "score")}


def test_all_steps_of_a_pipeline_that_has_not_begun_wait() -> None:
    assert {(step.kind, step.status) for step in pipeline_steps(SPEC, None)} == {
        ("reindex", "waiting"),
        ("evaluate", "waiting"),
        ("switch", "waiting"),
    }


def test_a_step_is_shown_as_the_pipeline_has_saved_it() -> None:
    saved = StepState(kind="reindex", status=StepStatus.RUNNING, job="j-first", total=1, cached={0: "x"})
    first, score, _ = pipeline_steps(SPEC, PipelineState(name="p", steps={"first": saved}))
    assert (first.status, first.job, first.cached) == ("running", "j-first", 1)
    assert score.status == "waiting"


def test_no_step_of_a_pipeline_that_has_ended_waits() -> None:
    saved = {
        "first": StepState(kind="reindex", status=StepStatus.FAILED, reason="no room"),
        "score": StepState(kind="evaluate", status=StepStatus.SKIPPED, reason="first has failed"),
    }
    steps = pipeline_steps(SPEC, PipelineState(name="p", steps=saved), ended=True)
    assert [(step.status, step.reason) for step in steps] == [
        ("failed", "no room"),
        ("skipped", "first has failed"),
        ("skipped", "the pipeline ended before its turn"),
    ]


def test_a_pipeline_that_cannot_run_shows_what_it_says_of_its_steps() -> None:
    steps = {name: step.model_copy(update={"needs": ("first", "nobody")}) for name, step in SPEC.steps.items()}
    found = pipeline_steps(SPEC.model_copy(update={"steps": steps}), None)
    assert [(step.step, step.needs) for step in found] == [(name, ("first",)) for name in SPEC.steps]


def test_other_jobs_have_no_steps() -> None:
    assert pipeline_steps(SwitchSpec(collection="docs"), None) == []
