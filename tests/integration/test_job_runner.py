"""The job runner: every job ends, and what cannot be done says why."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from services.scheduler.runner import JobRun, JobRunner
from shared.dead_letters import DeadLetters
from shared.envelope import Lane
from shared.job_board import JobBoard
from shared.jobs import DropSpec, Job, JobState
from shared.problems import Problem, ProblemType
from shared.pull import PullConsumer
from shared.tasks import background
from shared.topology import JOBS, job_consumer
from tests.harness.bench import Bench, open_bench, until
from tests.harness.broker import NatsServer

pytestmark = pytest.mark.anyio

SPEC = DropSpec(collection="docs", table="docs-1")
Drop = Callable[[JobRun], Awaitable[None]]


class Desk:
    """A runner of one kind of job, and what it needs to be watched."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.board = JobBoard(bench.client, bench.jetstream)
        self.letters = DeadLetters(bench.client, bench.jetstream)

    @asynccontextmanager
    async def working(self, drop: Drop, *, max_deliver: int = 2) -> AsyncIterator[None]:
        runner = JobRunner(self.board, self.letters, {"drop": drop}, max_deliver=max_deliver, ack_wait=1.0)
        consumer = PullConsumer(
            self.bench.client,
            stream=JOBS,
            consumer=job_consumer(Lane.BATCH),
            room=lambda: 2,
            handle=runner.handle,
            repair=self.bench.topology.ensure,
            ack_wait=1.0,
        )
        async with background(consumer.run()):
            yield
            await consumer.drain(5)

    async def submit(self, job: str = "j1") -> None:
        await self.board.submit(SPEC, job=job, tenant="t")

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
        return (await self.bench.jetstream.stream_info(JOBS)).state.messages

    async def empty(self) -> bool:
        return await self.left() == 0


@pytest.fixture
async def desk(broker: NatsServer) -> AsyncIterator[Desk]:
    async with open_bench(broker.url, ack_wait=1.0) as bench:
        yield Desk(bench)


async def done(_: JobRun) -> None: ...


async def test_a_job_runs_and_leaves_the_queue(desk: Desk) -> None:
    await desk.submit()
    async with desk.working(done):
        job = await desk.ended()
        await until(desk.empty, "the queue empty")
    assert (job.state, job.attempt, job.error) == (JobState.SUCCEEDED, 1, None)
    assert job.started_at is not None
    assert job.finished_at is not None


async def test_a_problem_of_the_jobs_own_fails_it_at_once(desk: Desk) -> None:
    async def refuse(_: JobRun) -> None:
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

    async def later(_: JobRun) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Problem(ProblemType.STAGE_UNAVAILABLE, "No embedder yet.")

    await desk.submit()
    async with desk.working(later):
        job = await desk.ended()
    assert (job.state, job.attempt, tries) == (JobState.SUCCEEDED, 2, 2)


async def test_a_job_that_keeps_failing_becomes_a_dead_letter_and_its_replay_runs_it_again(desk: Desk) -> None:
    async def broken(_: JobRun) -> None:
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
    await desk.bench.jetstream.publish("job.drop.batch", SPEC.model_dump_json().encode(), headers=headers)
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
    await desk.bench.jetstream.publish("job.drop.batch", data, headers=headers or None)
    async with desk.working(done):
        await until(desk.empty, "the queue empty")
    (letter,) = await desk.letters.list()
    assert letter.reason.startswith("This is no job")
    assert letter.deliveries == 1


async def test_a_job_given_back_while_draining_is_run_by_the_next_worker(desk: Desk) -> None:
    started = asyncio.Event()

    async def for_ever(_: JobRun) -> None:
        started.set()
        await asyncio.Event().wait()

    await desk.submit()
    runner = JobRunner(desk.board, desk.letters, {"drop": for_ever}, max_deliver=5, ack_wait=30.0)
    consumer = PullConsumer(
        desk.bench.client,
        stream=JOBS,
        consumer=job_consumer(Lane.BATCH),
        room=lambda: 1,
        handle=runner.handle,
        repair=desk.bench.topology.ensure,
        ack_wait=30.0,
    )
    async with background(consumer.run()):
        await started.wait()
        await consumer.drain(0.01)
    async with desk.working(done, max_deliver=5):
        job = await desk.ended()
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
