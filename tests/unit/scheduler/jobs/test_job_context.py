"""What a job may name is what its submitter's key may, also where a pipeline found it out as it ran."""

from typing import Any, cast

import pytest

from services.scheduler.jobs.job_context import JobContext
from shared.contracts.jobs import Job, JobOptions, decode_spec
from shared.contracts.problems import Problem, ProblemType


def run(spec: dict[str, Any], *collections: str) -> JobContext:
    job = Job(id="j", kind=spec["kind"], created_at=0, options=JobOptions(collections=collections))
    nothing = cast("Any", None)
    return JobContext(job, decode_spec(spec), job_store=nothing, artifacts=nothing, jetstream=nothing)


@pytest.mark.parametrize("patterns", [("docs",), ("*",), ("wiki", "doc?")])
def test_a_job_runs_where_its_collection_is_one_of_the_keys(patterns: tuple[str, ...]) -> None:
    run({"kind": "reindex", "collection": "docs"}, *patterns).check_access()
    run({"kind": "command", "args": ["true"]}, *patterns).check_access()


def test_a_job_fails_where_it_is_not() -> None:
    with pytest.raises(Problem) as caught:
        run({"kind": "reindex", "collection": "wiki"}, "docs").check_access()
    assert caught.value.kind is ProblemType.FORBIDDEN
