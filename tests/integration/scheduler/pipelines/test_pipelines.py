"""Pipelines: a graph of jobs runs to its end, whatever happens to those who run it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction
from services.scheduler.jobs.queue import JobQueue
from services.scheduler.pipelines.pipeline import pipeline as make_pipeline
from shared.contracts.jobs import BatchSpec, CommandSpec, Job, JobState, PipelineSpec
from shared.contracts.pipelines import PipelineState, StepStatus
from shared.contracts.problems import Problem, ProblemType
from shared.stores.checkpoints import Checkpoints
from shared.stores.jobs.retry import run_again
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

Work = Callable[[JobContext], Awaitable[None]]


class Stage:
    """A harness where steps are stand-ins: what each does is looked up by the step's name."""

    def __init__(self, job_harness: JobHarness) -> None:
        self.job_harness = job_harness
        self.begun: list[str] = []
        self.specs: dict[str, Any] = {}
        self.do: dict[str, Work] = {}
        self.running: Counter[str] = Counter()
        self.most = 0

    def working(self) -> AbstractAsyncContextManager[JobQueue]:
        """Workers of pipelines and of the stand-ins."""
        job_harness = self.job_harness
        parts = cast(
            "JobDependencies",
            SimpleNamespace(bus=job_harness.bus, job_store=job_harness.job_store, artifacts=job_harness.artifacts),
        )
        kinds: dict[str, JobFunction] = dict.fromkeys(("command", "batch", "evaluate", "switch"), self._perform)
        return job_harness.working({"pipeline": make_pipeline(parts), **kinds}, long=frozenset({"pipeline"}))

    async def _perform(self, run: JobContext) -> None:
        step = run.job.options.labels["step"]
        self.begun.append(run.job.id)
        self.specs[run.job.id] = run.spec
        self.running[step] += 1
        self.most = max(self.most, self.running[step])
        try:
            await self.do.get(step, _nothing)(run)
        finally:
            self.running[step] -= 1

    async def submit(self, job: str = "p", **members: Any) -> Job:
        return await self.job_harness.submit(PipelineSpec(name="test", **members), job)

    async def run(self, job: str = "p", **members: Any) -> Job:
        """Submit a pipeline and see it end."""
        await self.submit(job, **members)
        async with self.working():
            return await self.job_harness.ended(job)

    async def again(self, job: str = "p") -> Job:
        """Try a failed pipeline again and see it succeed."""
        job_harness = self.job_harness
        await run_again(job_harness.job_store, job_harness.dead_letters, "default", job, by="me", reason="repaired")

        async def succeeded() -> Job | None:
            found = await job_harness.job_store.get("default", job)
            return found if found.state is JobState.SUCCEEDED else None

        async with self.working():
            result: Job = await until(succeeded, f"pipeline {job} succeeded")
        return result

    async def state(self, job: str = "p") -> PipelineState:
        state = await Checkpoints(self.job_harness.bus.jetstream).pipeline("default", job)
        assert state is not None
        return state

    async def statuses(self, job: str = "p") -> dict[str, str]:
        return {name: step.status.value for name, step in (await self.state(job)).steps.items()}

    async def works(self, step: str) -> None:
        async def begun() -> bool:
            return bool(self.running[step])

        await until(begun, f"{step} at work")


async def _nothing(_: JobContext) -> None: ...


async def for_ever(_: JobContext) -> None:
    await asyncio.Event().wait()


async def broken(_: JobContext) -> None:
    raise Problem(ProblemType.CONFLICT, "it does not work")


async def says_it(run: JobContext) -> None:
    assert isinstance(run.spec, CommandSpec)
    run.outputs["said"] = run.spec.args[0]


def puts(**outputs: Any) -> Work:
    async def put(run: JobContext) -> None:
        run.outputs.update(outputs)

    return put


def command(*args: str, **members: Any) -> dict[str, Any]:
    return {"job": {"kind": "command", "args": list(args)}, **members}


EVALUATE = {"job": {"kind": "evaluate", "input": "questions/a.jsonl"}}
SWITCH = {"kind": "switch", "collection": "docs"}


@pytest.fixture
async def stage(broker: NatsServer) -> AsyncIterator[Stage]:
    async with open_job_harness(broker.url) as job_harness:
        yield Stage(job_harness)


async def test_outputs_of_a_step_are_inputs_of_the_next_with_their_types(stage: Stage) -> None:
    async def first(run: JobContext) -> None:
        run.outputs |= {"workers": 7, "names": ["a", "b"]}
        await run.attach("lines.jsonl", b"{}")

    stage.do["first"] = first
    batch = {"kind": "batch", "input": "${{ first.artifacts['lines.jsonl'] }}", "concurrency": "${{ first.workers }}"}
    job = await stage.run(
        parameters={"word": "and"},
        steps={
            "second": {"job": batch},
            "first": command(),
            "third": command("${{ second.job }}", "${{ first.workers * 2 }} ${{ parameters.word }} ${{ first.names }}"),
        },
        outputs={"workers": "${{ steps.first.outputs.workers }}", "state": "${{ third.state }}"},
    )
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.outputs == {"workers": 7, "state": "succeeded"}
    assert (job.progress.done, job.progress.total) == (3, 3)
    spec = stage.specs["p-second"]
    assert isinstance(spec, BatchSpec)
    assert (spec.input, spec.concurrency) == ("p-first/lines.jsonl", 7)
    third = stage.specs["p-third"]
    assert isinstance(third, CommandSpec)
    assert third.args == ("p-second", '14 and ["a", "b"]')
    assert stage.begun == ["p-first", "p-second", "p-third"]


async def test_steps_that_do_not_need_each_other_run_side_by_side(stage: Stage) -> None:
    both = asyncio.Barrier(2)

    async def meet(_: JobContext) -> None:
        await both.wait()

    stage.do |= {"a": meet, "b": meet}
    job = await stage.run(steps={"a": command(), "b": command(), "c": command(needs=["a", "b"])})
    assert job.state is JobState.SUCCEEDED
    assert stage.begun[-1] == "p-c"


@pytest.mark.parametrize(("recall", "state"), [(0.95, "succeeded"), (0.5, "skipped")])
async def test_a_condition_decides_over_a_step_and_what_reads_it(stage: Stage, recall: float, state: str) -> None:
    stage.do["evaluate"] = puts(recall_at_5=recall)
    job = await stage.run(
        parameters={"minimum": 0.9},
        steps={
            "evaluate": EVALUATE,
            "switch": {"job": SWITCH, "when": "evaluate.recall_at_5 >= parameters.minimum"},
            "reader": command("${{ switch.job }}"),
            "after": command(needs=["switch"]),
        },
        outputs={
            "message": "${{ 'switched' if switch.state == 'succeeded' else 'kept' }}",
            "switched": "${{ switch.job }}",
        },
    )
    assert job.state is JobState.SUCCEEDED
    assert await stage.statuses() == {
        "evaluate": "succeeded",
        "switch": state,
        "reader": state,
        "after": "succeeded",
    }
    switched = state == "succeeded"
    assert job.outputs == {"message": "switched" if switched else "kept", "switched": "p-switch" if switched else None}
    assert job.progress.message == job.outputs["message"]
    steps = (await stage.state()).steps
    reason = "not evaluate.recall_at_5 >= parameters.minimum (evaluate.recall_at_5 = 0.5, parameters.minimum = 0.9)"
    assert steps["switch"].reason == ("" if switched else reason)
    assert steps["reader"].reason == ("" if switched else "switch has been skipped")


async def test_a_step_fans_out_over_a_list_with_so_many_jobs_at_once(stage: Stage) -> None:
    full = asyncio.Barrier(3)

    async def square(run: JobContext) -> None:
        assert isinstance(run.spec, CommandSpec)
        await full.wait()
        run.outputs["square"] = int(run.spec.args[0]) ** 2

    stage.do["squares"] = square
    stage.do["numbers"] = puts(list=[1, 2, 3, 4, 5, 6])
    job = await stage.run(
        steps={
            "numbers": command(),
            "squares": command("${{ item }}", "${{ index }}", each="numbers.list", parallel=3),
            "total": command("${{ sum(squares.square) }}"),
        },
        outputs={"squares": "${{ squares.square }}", "last": "${{ squares.outputs[5].square }}"},
    )
    assert job.outputs == {"squares": [1, 4, 9, 16, 25, 36], "last": 36}
    assert stage.most == 3
    assert stage.specs["p-total"].args == ("91",)
    assert stage.specs["p-squares-4"].args == ("5", "4")
    step = (await stage.state()).steps["squares"]
    assert (step.total, step.done, step.failed) == (6, 6, 0)


async def test_an_empty_list_is_no_work(stage: Stage) -> None:
    job = await stage.run(steps={"a": command("${{ item }}", each=[])}, outputs={"jobs": "${{ a.job }}"})
    assert (job.state, job.outputs, stage.begun) == (JobState.SUCCEEDED, {"jobs": []}, [])


async def test_a_failed_step_fails_the_pipeline_once_what_runs_has_ended_and_nothing_new_begins(stage: Stage) -> None:
    failed = asyncio.Event()

    async def fail(run: JobContext) -> None:
        await stage.works("slow")
        failed.set()
        await broken(run)

    async def slow(_: JobContext) -> None:
        await failed.wait()

        async def seen() -> bool:
            return (await stage.statuses())["bad"] == "failed"

        await until(seen)

    stage.do |= {"bad": fail, "slow": slow}
    job = await stage.run(
        steps={"bad": command(), "slow": command(), "later": command(needs=["slow"])}, outputs={"x": "${{ bad.job }}"}
    )
    assert job.error is not None
    assert (job.state, job.error.type, job.error.detail) == (
        JobState.FAILED,
        "urn:sluice:problem:step-failed",
        "bad: it does not work",
    )
    assert await stage.statuses() == {"bad": "failed", "slow": "succeeded", "later": "waiting"}
    table = json.loads(await stage.job_harness.artifacts.get("default", "p/steps.json"))
    assert table["bad"]["reason"] == "it does not work"


async def test_the_pipeline_goes_on_after_a_failure_that_is_allowed(stage: Stage) -> None:
    stage.do["bad"] = broken
    job = await stage.run(
        steps={
            "bad": command(allow_failure=True),
            "reader": command("${{ bad.job }}"),
            "handler": command(when="bad.state == 'failed'"),
        }
    )
    assert job.state is JobState.SUCCEEDED
    assert await stage.statuses() == {"bad": "failed", "reader": "skipped", "handler": "succeeded"}


async def test_a_step_has_its_own_retries_and_its_own_time(stage: Stage) -> None:
    tries: Counter[str] = Counter()

    async def flaky(run: JobContext) -> None:
        tries[run.job.id] += 1
        if tries[run.job.id] < 3:
            raise RuntimeError("not yet")

    stage.do |= {"flaky": flaky, "slow": for_ever}
    job = await stage.run(
        steps={
            "flaky": command(retry={"limit": 3, "delay": 0.05, "max_delay": 0.05}),
            "slow": command(timeout=0.5, allow_failure=True),
        }
    )
    assert (job.state, tries["p-flaky"]) == (JobState.SUCCEEDED, 3)
    assert "deadline" in (await stage.state()).steps["slow"].reason


async def test_what_cannot_be_known_before_fails_its_step_with_the_reason(stage: Stage) -> None:
    stage.do["a"] = puts(size="many", list=3)
    job = await stage.run(
        steps={
            "a": command(),
            "spec": {
                "job": {"kind": "batch", "input": "x/y", "concurrency": "${{ a.size }}"},
                "allow_failure": True,
            },
            "when": command(when="a.size > 3", allow_failure=True),
            "each": command(each="a.list", allow_failure=True),
            "name": command("${{ a.sise }}", allow_failure=True),
        }
    )
    assert job.state is JobState.SUCCEEDED
    reasons = {name: step.reason for name, step in (await stage.state()).steps.items() if step.reason}
    assert reasons == {
        "spec": "concurrency: Input should be a valid integer, unable to parse string as an integer (it is 'many')",
        "when": "when: `a.size > 3` compares a text with a number",
        "each": "each: this is not a list of at most 500 items",
        "name": "there is no `a.sise`; known here: artifacts, job, list, outputs, size, state",
    }


async def test_a_cancelled_pipeline_ends_its_steps(stage: Stage) -> None:
    stage.do |= {"a": for_ever, "b": for_ever}
    await stage.submit(steps={"a": command(), "b": command(each=[1, 2]), "c": command(needs=["a"])})
    async with stage.working():
        await stage.works("a")
        await stage.works("b")
        await stage.job_harness.job_store.cancel("default", "p", reason="enough")
        ended = [await stage.job_harness.ended(job) for job in ("p", "p-a", "p-b-0", "p-b-1")]
    assert {job.state for job in ended} == {JobState.CANCELLED}
    assert "p-c" not in stage.begun


async def test_the_steps_of_a_cancelled_pipeline_say_that_they_were_cancelled(stage: Stage) -> None:
    stage.do["a"] = for_ever
    await stage.submit(steps={"done": command(), "a": command(needs=["done"]), "b": command(needs=["a"])})
    async with stage.working():
        await stage.works("a")
        await stage.job_harness.job_store.cancel("default", "p", reason="enough")
        await stage.job_harness.ended("p")
    assert await stage.statuses() == {"done": "succeeded", "a": "cancelled", "b": "waiting"}
    assert (await stage.state()).steps["a"].reason == "the pipeline was cancelled"


async def test_what_is_left_of_a_list_is_cancelled_when_another_step_fails_and_done_by_the_next_try(
    stage: Stage,
) -> None:
    failed = asyncio.Event()

    async def fail(run: JobContext) -> None:
        await stage.works("each")
        failed.set()
        await broken(run)

    async def wait(_: JobContext) -> None:
        await failed.wait()

        async def seen() -> bool:
            return (await stage.statuses())["bad"] == "failed"

        await until(seen)

    stage.do |= {"bad": fail, "each": wait}
    job = await stage.run(steps={"bad": command(), "each": command(each=[1, 2, 3], parallel=1)})
    assert job.state is JobState.FAILED
    assert await stage.statuses() == {"bad": "failed", "each": "cancelled"}
    assert (await stage.state()).steps["each"].reason == "bad has failed"
    stage.do.clear()
    await stage.again()
    counts = Counter(stage.begun)
    assert (counts["p-bad"], counts["p-each-0"], counts["p-each-1"], counts["p-each-2"]) == (2, 1, 1, 1)


async def test_a_pipeline_past_its_deadline_fails_with_its_steps_and_can_be_tried_again(stage: Stage) -> None:
    stage.do["a"] = for_ever
    steps = {"a": command(), "b": command(needs=["a"])}
    await stage.job_harness.submit(PipelineSpec(name="test", steps=steps), "p", deadline=time.time() + 5)
    async with stage.working():
        ended = [await stage.job_harness.ended(job) for job in ("p", "p-a")]
    assert ended[0].state is JobState.FAILED
    assert ended[1].state in (JobState.FAILED, JobState.CANCELLED)  # by its own deadline, or for the pipeline's
    stage.do.clear()
    await stage.again()
    assert await stage.statuses() == {"a": "succeeded", "b": "succeeded"}


async def test_a_step_whose_job_was_cancelled_fails_and_has_another_job_in_the_next_try(stage: Stage) -> None:
    async def second_waits(run: JobContext) -> None:
        assert isinstance(run.spec, CommandSpec)
        if run.spec.args == ("b",):
            await asyncio.Event().wait()
        await says_it(run)

    stage.do["each"] = second_waits
    await stage.submit(steps={"each": command("${{ item }}", each=["a", "b"])}, outputs={"said": "${{ each.said }}"})
    async with stage.working():
        await stage.job_harness.ended("p-each-0")
        await stage.works("each")
        await stage.job_harness.job_store.cancel("default", "p-each-1", by="me", reason="wrong input")
        job = await stage.job_harness.ended("p")
    assert job.error is not None
    assert (job.state, job.error.detail) == (JobState.FAILED, "each: the job was cancelled")
    stage.do["each"] = says_it
    job = await stage.again()
    assert job.outputs == {"said": ["a", "b"]}
    assert Counter(stage.begun) == {"p-each-0": 1, "p-each-1": 1, "p-each-try2-1": 1}


async def test_a_step_whose_inputs_have_not_changed_is_not_run_again(stage: Stage) -> None:
    async def count(run: JobContext) -> None:
        run.outputs["total"] = len(await stage.job_harness.artifacts.get("default", "in/lines.jsonl"))
        await run.attach("out.txt", b"x")

    stage.do["count"] = count
    batch = {"job": {"kind": "batch", "input": "in/lines.jsonl"}, "cache": True}
    members: dict[str, Any] = {
        "steps": {"count": batch, "plain": command("${{ count.artifacts['out.txt'] }}")},
        "outputs": {"bytes": "${{ count.total }}"},
    }
    await stage.job_harness.artifacts.put("default", "in/lines.jsonl", b"12345")
    first = await stage.run("one", **members)
    second = await stage.run("two", **members)
    await stage.job_harness.artifacts.put("default", "in/lines.jsonl", b"1234567")
    third = await stage.run("three", **members)
    assert [job.outputs["bytes"] for job in (first, second, third)] == [5, 5, 7]
    assert [job for job in stage.begun if job.endswith("count")] == ["one-count", "three-count"]
    assert (await stage.state("two")).steps["count"].cached == {0: "one-count"}
    assert stage.specs["two-plain"].args == ("one-count/out.txt",)


async def test_a_retried_pipeline_keeps_what_has_succeeded_and_runs_what_failed(stage: Stage) -> None:
    async def odd_ones_fail(run: JobContext) -> None:
        assert isinstance(run.spec, CommandSpec)
        if int(run.spec.args[0]) % 2:
            await broken(run)

    stage.do |= {"each": odd_ones_fail, "bad": broken}
    members = {
        "good": command(),
        "bad": command(),
        "each": command("${{ item }}", each=[0, 1, 2], parallel=3),
        "last": command(needs=["bad", "each", "good"]),
    }
    assert (await stage.run(steps=members)).state is JobState.FAILED
    stage.do.clear()
    await stage.again()
    counts = Counter(stage.begun)
    assert counts["p-good"] == counts["p-last"] == 1
    assert counts["p-bad"] == counts["p-each-1"] == 2
    assert counts["p-each-0"] == 1
    assert set((await stage.statuses()).values()) == {"succeeded"}


async def test_a_pipeline_goes_on_with_the_next_worker_and_no_step_is_run_twice(stage: Stage) -> None:
    go = asyncio.Event()

    async def wait(_: JobContext) -> None:
        await go.wait()

    stage.do["second"] = wait
    await stage.submit(
        steps={
            "first": command(),
            "no": command(when="first.state == 'failed'"),
            "second": command(needs=["first"]),
            "third": command(needs=["second", "no"]),
        }
    )
    async with stage.working() as queue:
        await stage.works("second")
        pipelines = {
            task: delivery
            for task, delivery in queue._held.by_task.items()
            if delivery.subject.startswith("job.pipeline.")
        }
        for delivery in pipelines.values():
            delivery.settled = True  # as if its process had died: the broker hears nothing any more
        await queue._held.cancel(pipelines)
        async with stage.working():
            go.set()
            job = await stage.job_harness.ended("p")
    assert (job.state, job.crashes) == (JobState.SUCCEEDED, 1)
    assert sorted(stage.begun) == ["p-first", "p-second", "p-third"]
    assert (await stage.statuses())["no"] == StepStatus.SKIPPED


async def test_a_pipeline_that_came_over_the_bus_unchecked_fails_with_what_is_wrong(stage: Stage) -> None:
    job = await stage.run(steps={"a": command(needs=["b"]), "b": command(when="a.x > 1")})
    assert job.error is not None
    assert (job.state, job.error.type) == (JobState.FAILED, "urn:sluice:problem:invalid-request")
    assert "these steps wait for each other: a -> b -> a" in job.error.detail


async def test_long_names_make_ids_of_an_allowed_length(stage: Stage) -> None:
    parent = "p" * 60
    job = await stage.run(parent, steps={"a_step_with_a_long_name": command(each=[1, 2])})
    assert job.state is JobState.SUCCEEDED
    assert len(set(stage.begun)) == 2
    assert all(len(name) <= 64 for name in stage.begun)
