"""The job runner: every job ends, and what cannot be done says why."""

import asyncio
import json
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
from shared.nats.bus import Bus
from shared.runtime.dead_letters import DeadLetters
from shared.runtime.tasks import background
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore
from tests.harness.bench import StageHarness, open_bench, until
from tests.harness.broker import NatsServer

pytestmark = pytest.mark.anyio

SPEC = DropSpec(collection="docs", table="docs-1")
QUICK = RetryPolicy(limit=2, delay=0.1, max_delay=0.1)


class Desk:
    """A job queue with its runner and timers, of one kind of job, and what it needs to be watched."""

    def __init__(self, bench: StageHarness) -> None:
        self.bench = bench
        self.board = JobStore(bench.client, bench.jetstream)
        self.letters = DeadLetters(bench.client, bench.jetstream)
        self.bus = cast(
            "Bus",
            SimpleNamespace(client=bench.client, jetstream=bench.jetstream, topology=bench.topology, connected=True),
        )

    def queue(self, drop: JobFunction, *, pool: Pool = Pool.SHORT, slots: int = 8, max_crashes: int = 2) -> JobQueue:
        kinds = {"drop": JobKind(name="drop", pool=pool, perform=drop)}
        artifacts = Artifacts(self.bench.jetstream)
        self.runner = JobRunner(
            self.bus,
            self.board,
            artifacts,
            self.letters,
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
        )

    @asynccontextmanager
    async def working(self, drop: JobFunction, **options: Any) -> AsyncIterator[JobQueue]:
        queue = self.queue(drop, **options)
        due = TimerWorker(self.bus, {"retry": partial(forward_due_retry, self.bench.jetstream)}, ack_wait=1.0)
        hearing = await self.bench.client.subscribe("control.job.*.cancel", cb=self.runner.hear_cancel)
        async with background(queue.run()), background(due.run()):
            yield queue
            await asyncio.gather(queue.drain(5), due.drain(5))
        await hearing.unsubscribe()

    async def submit(self, job: str = "j1", tenant: str = "t", **options: Any) -> None:
        chosen = JobOptions(**({"retry": QUICK} | options))
        await self.board.submit(SPEC, job=job, tenant=tenant, options=chosen)

    async def ended(self, job: str = "j1", tenant: str = "t") -> Job:
        async def entry() -> Job | None:
            try:
                found = await self.board.get(tenant, job)
            except Problem:
                return None
            return found if found.state.ended else None

        result: Job = await until(entry, f"job {job} ended")
        return result

    async def left(self) -> int:
        return (await self.bench.jetstream.stream_info("JOBS")).state.messages

    async def empty(self) -> bool:
        return await self.left() == 0


@pytest.fixture
async def desk(broker: NatsServer) -> AsyncIterator[Desk]:
    async with open_bench(broker.url, ack_wait=1.0) as bench:
        yield Desk(bench)


async def done(_: JobContext) -> None: ...


async def test_a_job_runs_and_leaves_the_queue(desk: Desk) -> None:
    await desk.submit()
    async with desk.working(done):
        job = await desk.ended()
        await until(desk.empty, "the queue empty")
    assert (job.state, job.attempt, job.error) == (JobState.SUCCEEDED, 1, None)
    assert job.started_at is not None
    assert job.finished_at is not None


async def test_a_problem_of_the_jobs_own_fails_it_at_once(desk: Desk) -> None:
    async def refuse(_: JobContext) -> None:
        raise Problem(ProblemType.COLLECTION_NOT_FOUND, "There is no collection 'docs'.")

    await desk.submit()
    async with desk.working(refuse):
        job = await desk.ended()
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error is not None
    assert job.error.type.endswith("collection-not-found")
    assert await desk.letters.count() == 0


async def test_trouble_that_passes_is_tried_again(desk: Desk) -> None:
    tries = 0

    async def later(_: JobContext) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Problem(ProblemType.STAGE_UNAVAILABLE, "No embedder yet.")

    await desk.submit()
    async with desk.working(later):
        job = await desk.ended()
    assert (job.state, job.attempt, tries) == (JobState.SUCCEEDED, 2, 2)


async def test_a_job_that_keeps_failing_becomes_a_dead_letter_and_its_replay_runs_it_again(desk: Desk) -> None:
    async def broken(_: JobContext) -> None:
        raise RuntimeError("the disk is full")

    await desk.submit()
    async with desk.working(broken):
        job = await desk.ended()
        await until(desk.empty, "the queue empty")
    assert job.state is JobState.FAILED
    (letter,) = await desk.letters.list()
    assert "the disk is full" in letter.reason
    assert "RuntimeError" in letter.traceback

    await desk.letters.replay(letter.sequence)
    assert await desk.letters.count() == 0
    async with desk.working(done):
        await until(desk.empty, "the queue empty")
    job = await desk.board.get("t", "j1")
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)


async def test_a_job_straight_from_the_bus_runs_and_gets_an_entry(desk: Desk) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "from-the-bus", "ce-type": "io.sluice.job.drop", "ce-source": "/me"}
    await desk.bench.jetstream.publish("job.drop.normal.default", SPEC.model_dump_json().encode(), headers=headers)
    async with desk.working(done):
        job = await desk.ended("from-the-bus", "default")
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
async def test_what_is_no_job_becomes_a_dead_letter_at_once(desk: Desk, data: bytes, headers: dict[str, str]) -> None:
    await desk.bench.jetstream.publish("job.drop.normal.default", data, headers=headers or None)
    async with desk.working(done):
        await until(desk.empty, "the queue empty")
    (letter,) = await desk.letters.list()
    assert letter.reason.startswith("This is no job")
    assert letter.deliveries == 1


@pytest.mark.parametrize("pool", list(Pool))
async def test_a_job_given_back_while_draining_is_run_by_the_next_worker(desk: Desk, pool: Pool) -> None:
    started = asyncio.Event()

    async def for_ever(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    await desk.submit()
    queue = desk.queue(for_ever, pool=pool)
    async with background(queue.run()):
        await started.wait()
        await queue.drain(0.01)
    async with desk.working(done):
        job = await desk.ended()
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 1, 0)


async def test_a_job_whose_workers_keep_dying_becomes_a_dead_letter(desk: Desk) -> None:
    started = asyncio.Event()

    async def die(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    await desk.submit()
    for _ in range(3):
        queue = desk.queue(die)
        async with background(queue.run()):
            await started.wait()
            started.clear()
            for delivery in queue._held.values():
                delivery.settled = True  # as if the process had died: the broker hears nothing any more
    async with desk.working(done):
        job = await desk.ended()
    assert (job.state, job.crashes) == (JobState.FAILED, 3)
    (letter,) = await desk.letters.list()
    assert "died 3 times" in letter.reason


async def test_a_running_job_can_be_cancelled(desk: Desk) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def for_ever(_: JobContext) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await desk.submit()
    async with desk.working(for_ever):
        await started.wait()
        await desk.board.cancel("t", "j1", by="me", reason="enough")
        job = await desk.ended()
        await until(desk.empty, "the queue empty")
    assert job.state is JobState.CANCELLED
    assert ended.is_set()


async def test_a_job_that_was_cancelled_while_it_waited_never_runs(desk: Desk) -> None:
    ran = []

    async def run(run: JobContext) -> None:
        ran.append(run.job.id)

    await desk.submit("unwanted")
    await desk.submit("wanted")
    await desk.board.cancel("t", "unwanted")
    async with desk.working(run):
        await desk.ended("wanted")
        await until(desk.empty, "the queue empty")
    assert ran == ["wanted"]


async def test_a_job_that_was_cancelled_while_its_worker_was_dead_ends_when_it_is_taken_up(desk: Desk) -> None:
    started = asyncio.Event()

    async def die(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    await desk.submit()
    queue = desk.queue(die)
    async with background(queue.run()):
        await started.wait()
        for delivery in queue._held.values():
            delivery.settled = True
    await desk.board.cancel("t", "j1")
    async with desk.working(done):
        assert (await desk.ended()).state is JobState.CANCELLED


async def test_a_job_past_its_deadline_fails(desk: Desk) -> None:
    async def for_ever(_: JobContext) -> None:
        await asyncio.Event().wait()

    await desk.submit(deadline=1.0)
    async with desk.working(for_ever):
        job = await desk.ended()
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, "deadline-exceeded")


async def test_tenants_take_turns_however_much_one_of_them_submits(desk: Desk) -> None:
    order: list[str] = []

    async def note(run: JobContext) -> None:
        order.append(run.tenant)

    for number in range(20):
        await desk.submit(f"many{number}", tenant="many")
    for number in range(3):
        await desk.submit(f"few{number}", tenant="few")
    async with desk.working(note, slots=1):
        await until(desk.empty, "the queue empty")
    assert len(order) == 23
    assert order[:6].count("few") == 3


async def test_of_one_tenants_jobs_the_higher_priority_goes_first(desk: Desk) -> None:
    order: list[str] = []

    async def note(run: JobContext) -> None:
        order.append(run.job.id)

    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        await desk.submit(f"j-{priority}", priority=priority)
    async with desk.working(note, slots=1):
        await until(desk.empty, "the queue empty")
    assert order == ["j-high", "j-normal", "j-low"]


async def test_a_part_of_the_slots_is_kept_for_high_priority(desk: Desk) -> None:
    started: asyncio.Queue[str] = asyncio.Queue()
    free = asyncio.Event()

    async def hold(run: JobContext) -> None:
        started.put_nowait(run.job.id)
        await free.wait()

    for number in range(6):
        await desk.submit(f"normal{number}")
    async with desk.working(hold, slots=4):
        taken = {await started.get() for _ in range(3)}
        await desk.submit("urgent", priority=Priority.HIGH)
        assert await started.get() == "urgent"
        assert len(taken) == 3
        assert started.empty()
        free.set()
        await until(desk.empty, "the queue empty")


async def test_what_a_try_saved_is_there_for_the_next(desk: Desk) -> None:
    seen: list[object] = []

    async def work(run: JobContext) -> None:
        seen.append(await run.checkpoint())
        await run.save({"line": len(seen)})
        if len(seen) == 1:
            raise RuntimeError("broken off")
        run.outputs["lines"] = 2
        await run.attach("result.txt", b"all of it")

    await desk.submit()
    async with desk.working(work):
        job = await desk.ended()
    assert seen == [None, {"line": 1}]
    assert (job.outputs, job.artifacts) == ({"lines": 2}, ("result.txt",))
    assert await Artifacts(desk.bench.jetstream).get("t", "j1/result.txt") == b"all of it"


async def test_a_try_that_came_too_early_waits_for_the_end_of_the_one_before(desk: Desk) -> None:
    started, free = asyncio.Event(), asyncio.Event()
    tries: list[int] = []

    async def work(run: JobContext) -> None:
        tries.append(run.job.attempt)
        started.set()
        await free.wait()

    await desk.submit()
    async with desk.working(work):
        await started.wait()
        job = await desk.board.get("t", "j1")
        await desk.board.requeue(SPEC, job, attempt=2)
        free.set()
        await desk.ended()
        await until(desk.empty, "the queue empty")
    assert tries == [1]
