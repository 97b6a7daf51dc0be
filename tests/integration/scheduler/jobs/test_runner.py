"""The job runner: every job ends, and what cannot be done says why."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobFunction, JobKind, Pool
from services.scheduler.jobs.queue import JobQueue
from services.scheduler.jobs.retry import forward_due_retry
from services.scheduler.jobs.runner import JobRunner
from services.scheduler.schedules.timers import TimerWorker
from shared.contracts.jobs import DropSpec, Job, JobOptions, JobState, Priority, RetryPolicy
from shared.contracts.problems import Problem, ProblemType
from shared.fairness import Clock
from shared.service.bus import Bus
from shared.stores.artifacts import Artifacts
from shared.stores.dead_letters import DeadLetters
from shared.stores.jobs.store import JobStore
from shared.tasks import background
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness, until

pytestmark = pytest.mark.anyio

SPEC = DropSpec(collection="docs", table="docs-1")
QUICK = RetryPolicy(limit=2, delay=0.1, max_delay=0.1)


class RunnerHarness:
    """A job queue with its runner and timers, of one kind of job, and what it needs to be watched."""

    def __init__(self, harness: StageHarness) -> None:
        self.harness = harness
        self.job_store = JobStore(harness.client, harness.jetstream)
        self.dead_letters = DeadLetters(harness.client, harness.jetstream)
        self.bus = cast(
            "Bus",
            SimpleNamespace(
                client=harness.client, jetstream=harness.jetstream, topology=harness.topology, connected=True
            ),
        )

    def queue(
        self,
        drop: JobFunction,
        *,
        pool: Pool = Pool.SHORT,
        slots: int = 8,
        max_crashes: int = 2,
        clock: Clock = time.monotonic,
    ) -> JobQueue:
        kinds = {"drop": JobKind(name="drop", pool=pool, perform=drop)}
        artifacts = Artifacts(self.harness.jetstream)
        self.runner = JobRunner(
            self.bus,
            self.job_store,
            artifacts,
            self.dead_letters,
            kinds,
            max_crashes=max_crashes,
            instance="w",
            ack_wait=1.0,
        )
        return JobQueue(
            self.bus,
            kinds,
            handle=self.runner.handle,
            give_back=self.runner.give_back,
            slots=dict.fromkeys(Pool, slots),
            ack_wait=1.0,
            clock=clock,
        )

    @asynccontextmanager
    async def working(self, drop: JobFunction, **options: Any) -> AsyncIterator[JobQueue]:
        queue = self.queue(drop, **options)
        due = TimerWorker(self.bus, {"retry": partial(forward_due_retry, self.harness.jetstream)}, ack_wait=1.0)
        hearing = await self.harness.client.subscribe("control.job.*.cancel", cb=self.runner.hear_cancel)
        async with background(queue.run()), background(due.run()):
            yield queue
            await asyncio.gather(queue.drain(5), due.drain(5))
        await hearing.unsubscribe()

    async def submit(self, job: str = "j1", tenant: str = "t", **options: Any) -> None:
        chosen = JobOptions(**({"retry": QUICK} | options))
        await self.job_store.submit(SPEC, job=job, tenant=tenant, options=chosen)

    async def ended(self, job: str = "j1", tenant: str = "t") -> Job:
        async def entry() -> Job | None:
            try:
                found = await self.job_store.get(tenant, job)
            except Problem:
                return None
            return found if found.state.ended else None

        result: Job = await until(entry, f"job {job} ended")
        return result

    async def left(self) -> int:
        return (await self.harness.jetstream.stream_info("JOBS")).state.messages

    async def empty(self) -> bool:
        return await self.left() == 0


@pytest.fixture
async def runner_harness(broker: NatsServer) -> AsyncIterator[RunnerHarness]:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        yield RunnerHarness(harness)


async def done(_: JobContext) -> None: ...


async def test_a_job_runs_and_leaves_the_queue(runner_harness: RunnerHarness) -> None:
    await runner_harness.submit()
    async with runner_harness.working(done):
        job = await runner_harness.ended()
        await until(runner_harness.empty, "the queue empty")
    assert (job.state, job.attempt, job.error) == (JobState.SUCCEEDED, 1, None)
    assert job.started_at is not None
    assert job.finished_at is not None


async def test_a_problem_of_the_jobs_own_fails_it_at_once(runner_harness: RunnerHarness) -> None:
    async def refuse(_: JobContext) -> None:
        raise Problem(ProblemType.COLLECTION_NOT_FOUND, "There is no collection 'docs'.")

    await runner_harness.submit()
    async with runner_harness.working(refuse):
        job = await runner_harness.ended()
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error is not None
    assert job.error.type.endswith("collection-not-found")
    assert await runner_harness.dead_letters.count() == 0


async def test_trouble_that_passes_is_tried_again(runner_harness: RunnerHarness) -> None:
    tries = 0

    async def later(_: JobContext) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Problem(ProblemType.STAGE_UNAVAILABLE, "No embedder yet.")

    await runner_harness.submit()
    async with runner_harness.working(later):
        job = await runner_harness.ended()
    assert (job.state, job.attempt, tries) == (JobState.SUCCEEDED, 2, 2)


async def test_a_job_that_keeps_failing_becomes_a_dead_letter_and_its_replay_runs_it_again(
    runner_harness: RunnerHarness,
) -> None:
    async def broken(_: JobContext) -> None:
        raise RuntimeError("the disk is full")

    await runner_harness.submit()
    async with runner_harness.working(broken):
        job = await runner_harness.ended()
        await until(runner_harness.empty, "the queue empty")
    assert job.state is JobState.FAILED
    (letter,) = await runner_harness.dead_letters.list()
    assert "the disk is full" in letter.reason
    assert "RuntimeError" in letter.traceback

    await runner_harness.dead_letters.replay(letter.sequence)
    assert await runner_harness.dead_letters.count() == 0
    async with runner_harness.working(done):
        await until(runner_harness.empty, "the queue empty")
    job = await runner_harness.job_store.get("t", "j1")
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)


async def test_a_job_straight_from_the_bus_runs_and_gets_an_entry(runner_harness: RunnerHarness) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "from-the-bus", "ce-type": "io.sluice.job.drop", "ce-source": "/me"}
    await runner_harness.harness.jetstream.publish(
        "job.drop.normal.default", SPEC.model_dump_json().encode(), headers=headers
    )
    async with runner_harness.working(done):
        job = await runner_harness.ended("from-the-bus", "default")
    assert (job.kind, job.state) == ("drop", JobState.SUCCEEDED)


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"no json", {}),
        (json.dumps({"kind": "unheard-of"}).encode(), {}),
        (SPEC.model_dump_json().encode(), {"ce-id": "a b.*"}),
        (SPEC.model_dump_json().encode(), {"ce-tenant": "no/tenant"}),
    ],
)
async def test_what_is_no_job_becomes_a_dead_letter_at_once(
    runner_harness: RunnerHarness, data: bytes, headers: dict[str, str]
) -> None:
    await runner_harness.harness.jetstream.publish("job.drop.normal.default", data, headers=headers or None)
    async with runner_harness.working(done):
        await until(runner_harness.empty, "the queue empty")
    (letter,) = await runner_harness.dead_letters.list()
    assert letter.reason.startswith("This is not a job")
    assert letter.deliveries == 1


async def test_the_dead_letter_of_what_is_no_job_names_the_members_that_are_wrong(
    runner_harness: RunnerHarness,
) -> None:
    spec = b'{"kind": "switch", "colection": "docs", "keep": "two"}'
    await runner_harness.harness.jetstream.publish("job.drop.normal.default", spec)
    async with runner_harness.working(done):
        await until(runner_harness.empty, "the queue empty")
    (letter,) = await runner_harness.dead_letters.list()
    assert letter.reason == (
        "This is not a job: switch.collection: Field required; switch.keep: Input should be a valid integer, unable to "
        "parse string as an integer"
    )


@pytest.mark.parametrize("pool", list(Pool))
async def test_a_job_given_back_while_draining_is_run_by_the_next_worker(
    runner_harness: RunnerHarness, pool: Pool
) -> None:
    started = asyncio.Event()

    async def for_ever(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    await runner_harness.submit()
    queue = runner_harness.queue(for_ever, pool=pool)
    async with background(queue.run()):
        await started.wait()
        await queue.drain(0.01)
    async with runner_harness.working(done):
        job = await runner_harness.ended()
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 1, 0)


async def test_a_job_whose_workers_keep_dying_becomes_a_dead_letter(runner_harness: RunnerHarness) -> None:
    started = asyncio.Event()

    async def die(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    await runner_harness.submit()
    for _ in range(3):
        queue = runner_harness.queue(die)
        async with background(queue.run()):
            await started.wait()
            started.clear()
            for delivery in queue._held.by_task.values():
                delivery.settled = True  # as if the process had died: the broker hears nothing any more
    async with runner_harness.working(done):
        job = await runner_harness.ended()
    assert (job.state, job.crashes) == (JobState.FAILED, 3)
    (letter,) = await runner_harness.dead_letters.list()
    assert "died 3 times" in letter.reason


async def test_a_running_job_can_be_cancelled(runner_harness: RunnerHarness) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def for_ever(_: JobContext) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await runner_harness.submit()
    async with runner_harness.working(for_ever):
        await started.wait()
        await runner_harness.job_store.cancel("t", "j1", by="me", reason="enough")
        job = await runner_harness.ended()
        await until(runner_harness.empty, "the queue empty")
    assert job.state is JobState.CANCELLED
    assert ended.is_set()


async def test_a_job_that_was_cancelled_while_it_waited_never_runs(runner_harness: RunnerHarness) -> None:
    ran = []

    async def run(run: JobContext) -> None:
        ran.append(run.job.id)

    await runner_harness.submit("unwanted")
    await runner_harness.submit("wanted")
    await runner_harness.job_store.cancel("t", "unwanted")
    async with runner_harness.working(run):
        await runner_harness.ended("wanted")
        await until(runner_harness.empty, "the queue empty")
    assert ran == ["wanted"]


async def test_a_job_that_was_cancelled_while_its_worker_was_dead_ends_when_it_is_taken_up(
    runner_harness: RunnerHarness,
) -> None:
    started = asyncio.Event()

    async def die(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    await runner_harness.submit()
    queue = runner_harness.queue(die)
    async with background(queue.run()):
        await started.wait()
        for delivery in queue._held.by_task.values():
            delivery.settled = True
    await runner_harness.job_store.cancel("t", "j1")
    async with runner_harness.working(done):
        assert (await runner_harness.ended()).state is JobState.CANCELLED


async def test_a_job_past_its_deadline_fails(runner_harness: RunnerHarness) -> None:
    async def for_ever(_: JobContext) -> None:
        await asyncio.Event().wait()

    await runner_harness.submit(deadline=1.0)
    async with runner_harness.working(for_ever):
        job = await runner_harness.ended()
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, "deadline-exceeded")


async def test_tenants_take_turns_however_much_one_of_them_submits(runner_harness: RunnerHarness) -> None:
    order: list[str] = []

    async def note(run: JobContext) -> None:
        order.append(run.tenant)

    for number in range(20):
        await runner_harness.submit(f"many{number}", tenant="many")
    for number in range(3):
        await runner_harness.submit(f"few{number}", tenant="few")
    # The clock ticks once a job, so each of them takes equally long.
    async with runner_harness.working(note, slots=1, clock=lambda: float(len(order))):
        await until(runner_harness.empty, "the queue empty")
    assert len(order) == 23
    assert order[:6].count("few") == 3


async def test_of_one_tenants_jobs_the_higher_priority_goes_first(runner_harness: RunnerHarness) -> None:
    order: list[str] = []

    async def note(run: JobContext) -> None:
        order.append(run.job.id)

    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        await runner_harness.submit(f"j-{priority}", priority=priority)
    async with runner_harness.working(note, slots=1):
        await until(runner_harness.empty, "the queue empty")
    assert order == ["j-high", "j-normal", "j-low"]


async def test_a_part_of_the_slots_is_kept_for_high_priority(runner_harness: RunnerHarness) -> None:
    started: asyncio.Queue[str] = asyncio.Queue()
    free = asyncio.Event()

    async def hold(run: JobContext) -> None:
        started.put_nowait(run.job.id)
        await free.wait()

    for number in range(6):
        await runner_harness.submit(f"normal{number}")
    async with runner_harness.working(hold, slots=4):
        taken = {await started.get() for _ in range(3)}
        await runner_harness.submit("urgent", priority=Priority.HIGH)
        assert await started.get() == "urgent"
        assert len(taken) == 3
        assert started.empty()
        free.set()
        await until(runner_harness.empty, "the queue empty")


async def test_what_a_try_saved_is_there_for_the_next(runner_harness: RunnerHarness) -> None:
    seen: list[object] = []

    async def work(run: JobContext) -> None:
        seen.append(await run.checkpoint())
        await run.save({"line": len(seen)})
        if len(seen) == 1:
            raise RuntimeError("broken off")
        run.outputs["lines"] = 2
        await run.attach("result.txt", b"all of it")

    await runner_harness.submit()
    async with runner_harness.working(work):
        job = await runner_harness.ended()
    assert seen == [None, {"line": 1}]
    assert (job.outputs, job.artifacts) == ({"lines": 2}, ("result.txt",))
    assert await Artifacts(runner_harness.harness.jetstream).get("t", "j1/result.txt") == b"all of it"


async def test_a_try_that_came_too_early_waits_for_the_end_of_the_one_before(runner_harness: RunnerHarness) -> None:
    started, free = asyncio.Event(), asyncio.Event()
    tries: list[int] = []

    async def work(run: JobContext) -> None:
        tries.append(run.job.attempt)
        started.set()
        await free.wait()

    await runner_harness.submit()
    async with runner_harness.working(work):
        await started.wait()
        job = await runner_harness.job_store.get("t", "j1")
        await runner_harness.job_store.requeue(SPEC, job, attempt=2)
        free.set()
        await runner_harness.ended()
        await until(runner_harness.empty, "the queue empty")
    assert tries == [1]
