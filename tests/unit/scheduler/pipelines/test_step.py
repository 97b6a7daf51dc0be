"""Which jobs a step of a pipeline has, when it submits them, and when it has ended."""

from typing import Any, cast

import pytest

from services.scheduler.pipelines.cache import StepCache
from services.scheduler.pipelines.step import Family, StepError, StepRunner, job_ids, renewed
from shared.contracts.jobs import Job, JobOptions, JobSpec, JobState, PipelineStep
from shared.contracts.pipelines import StepState, StepStatus
from shared.contracts.problems import Problem, ProblemType
from shared.stores.dead_letters import DeadLetters
from shared.stores.jobs.store import JobStore

pytestmark = pytest.mark.anyio

PARENT = Job(id="p", kind="pipeline", created_at=1.0, attempt=2)
DELETE = {"kind": "delete", "collection": "docs", "documents": ["0" * 32]}
LOOP = {"kind": "delete", "collection": "docs", "documents": ["${{ item }}"]}
ITEMS: list[Any] = ["a" * 32, "b" * 32, "c" * 32]


class JobRecords:
    """Jobs in memory, in the place of the store's records; at most `room` of them wait."""

    def __init__(self, room: int = 100) -> None:
        self.jobs: dict[str, Job] = {}
        self.options: dict[str, JobOptions] = {}
        self.room = room

    async def submit(self, spec: JobSpec, *, job: str, tenant: str, options: JobOptions) -> tuple[Job, bool]:
        if job not in self.jobs and len(self.jobs) >= self.room:
            raise Problem(ProblemType.QUEUE_FULL, "full")
        new = job not in self.jobs
        self.options[job] = options
        return self.jobs.setdefault(job, Job(id=job, kind=spec.kind, tenant=tenant, created_at=1.0)), new

    async def get(self, tenant: str, job: str) -> Job:
        if job not in self.jobs:
            raise Problem(ProblemType.NOT_FOUND, "no")
        return self.jobs[job]

    def end(self, job: str, state: JobState = JobState.SUCCEEDED, event: int = 1) -> None:
        self.jobs[job] = self.jobs[job].model_copy(update={"state": state, "event": event})


@pytest.fixture
def records() -> JobRecords:
    return JobRecords()


def runner(records: JobRecords, *, state: StepState | None = None, **members: Any) -> StepRunner:
    family = Family(
        parent=PARENT,
        name="nightly",
        job_store=cast("JobStore", records),
        dead_letters=cast("DeadLetters", None),
        cache=cast("StepCache", None),
        watched=set(),
    )
    step = PipelineStep.model_validate({"job": DELETE} | members)
    return StepRunner("clean", step, state or StepState(kind="delete", status=StepStatus.RUNNING), family)


async def test_a_step_has_one_job_whose_id_follows_from_the_pipelines(records: JobRecords) -> None:
    step = runner(records)
    assert step.begin({}).job == "p-clean"
    await step.advance(None)
    assert list(records.jobs) == ["p-clean"]
    assert (records.options["p-clean"].parent, records.options["p-clean"].by) == ("p", "pipeline p")
    assert not step.ended
    records.end("p-clean")
    state = await step.advance({"p-clean"})
    assert (state.done, state.failed, step.ended) == (1, 0, True)


async def test_a_job_is_read_only_if_it_has_changed(records: JobRecords) -> None:
    step = runner(records)
    step.begin({})
    await step.advance(None)
    records.end("p-clean")
    assert (await step.advance({"another"})).done == 0
    assert (await step.advance(None)).done == 1


async def test_a_list_gives_a_job_an_item_and_so_many_run_at_once(records: JobRecords) -> None:
    step = runner(records, job=LOOP, each=ITEMS, parallel=2)
    assert step.begin({}).total == 3
    await step.advance(None)
    assert list(records.jobs) == ["p-clean-0", "p-clean-1"]
    records.end("p-clean-0")
    await step.advance({"p-clean-0"})
    assert list(records.jobs) == ["p-clean-0", "p-clean-1", "p-clean-2"]


@pytest.mark.parametrize(("allow_failure", "submitted"), [(False, 1), (True, 2)])
async def test_after_a_failure_the_rest_of_a_list_begins_only_if_failures_are_allowed(
    records: JobRecords, allow_failure: bool, submitted: int
) -> None:
    step = runner(records, job=LOOP, each=ITEMS, parallel=1, allow_failure=allow_failure)
    step.begin({})
    await step.advance(None)
    records.end("p-clean-0", JobState.FAILED)
    assert (await step.advance(None)).failed == 1
    assert len(records.jobs) == submitted
    assert step.ended is not allow_failure


async def test_a_full_queue_is_tried_again_at_the_next_look(records: JobRecords) -> None:
    records.room = 1
    step = runner(records, job=LOOP, each=ITEMS[:2])
    step.begin({})
    await step.advance(None)
    assert list(records.jobs) == ["p-clean-0"]
    records.room = 2
    await step.advance(set())
    assert list(records.jobs) == ["p-clean-0", "p-clean-1"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"each": "${{ parameters.nothing }}"}, "each: "),
        ({"each": 3}, "each: this is not a list"),
        ({"job": DELETE | {"documents": 3}}, "documents: "),
    ],
)
def test_a_step_that_cannot_be_made_says_which_member_is_wrong(
    records: JobRecords, members: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StepError, match=reason):
        runner(records, **members).begin({"parameters": {}})


def test_ids_stay_within_what_a_job_may_be_called_and_differ() -> None:
    state = StepState(kind="delete", looped=True, total=2)
    ids = job_ids("p" * 60, "clean", state)
    assert len(set(ids)) == 2
    assert all(len(name) <= 64 for name in ids)


async def test_another_try_runs_failures_again_replaces_what_was_cancelled_and_keeps_the_rest(
    records: JobRecords,
) -> None:
    state = StepState(kind="delete", status=StepStatus.FAILED, looped=True, total=4, finished_at=1.0)
    for index, ended in enumerate((JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)):
        records.jobs[f"p-clean-{index}"] = Job(id=f"p-clean-{index}", kind="delete", created_at=1.0)
        records.end(f"p-clean-{index}", ended, event=10 + index)
    again = await renewed(PARENT, "clean", state, cast("JobStore", records))
    assert (again.status, again.finished_at) == (StepStatus.RUNNING, None)
    assert again.failures == {"p-clean-1": 11}
    assert again.replaced == {2: "p-clean-try2-2"}
    assert job_ids("p", "clean", again) == ["p-clean-0", "p-clean-1", "p-clean-try2-2", "p-clean-3"]
