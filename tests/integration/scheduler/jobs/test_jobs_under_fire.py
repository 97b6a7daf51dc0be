"""Thousands of small jobs while their workers and the broker are killed: each takes effect once, and the log knows."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle, islice
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from shared.contracts.jobs import DropSpec, Job, JobOptions, JobState, RetryPolicy
from shared.contracts.problems import Problem
from shared.stores.jobs.events import stored_events
from shared.stores.jobs.store import JobStore
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import StageHarness, open_stage_harness, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200)]

JOBS = int(os.environ.get("SLUICE_TEST_JOBS", "3000"))
"""10,000 is what the platform was tried with; the usual run is shorter."""

TENANTS = ("red", "green", "blue")
WORKERS = 2
KILLS = 15
"""Spread over the work, not over time: on a slow machine the jobs would never end between two kills."""

SETTLED = 0.2


@contextmanager
def workers(broker: NatsServer, folder: Path) -> Iterator[list[ServiceProcess]]:
    running = [
        ServiceProcess(
            "tests.harness.programs.counting_worker",
            folder / f"w{n}",
            nats_url=broker.url,
            ack_wait=2,
            instance=f"w{n}",
        )
        for n in range(WORKERS)
    ]
    try:
        for worker in running:
            worker.start()
        yield running
    finally:
        for worker in running:
            worker.kill()


async def submit(job_store: JobStore, number: int) -> None:
    """As a client does it: again with the same id until it is told that the job is taken."""
    options = JobOptions(retry=RetryPolicy(limit=20, delay=0.2, max_delay=1.0))
    while True:
        try:
            spec = DropSpec(collection="c", table=f"t{number}")
            await job_store.submit(spec, job=f"j{number}", tenant=TENANTS[number % 3], options=options)
        except (NatsError, TimeoutError, Problem):
            await asyncio.sleep(SETTLED)
        else:
            return


async def submit_all(job_store: JobStore) -> None:
    todo = iter(range(JOBS))

    async def some() -> None:
        for number in todo:
            await submit(job_store, number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(some())


@asynccontextmanager
async def fire(harness: StageHarness, broker: NatsServer, running: list[ServiceProcess]) -> AsyncIterator[list[str]]:
    """Kill one after the other while the block runs, each after another share of the work, and bring it back."""
    shots: list[str] = []

    async def shoot() -> None:
        for number, victim in enumerate(islice(cycle((*running, broker)), KILLS)):
            await until(lambda due=number: is_due(harness, due), "the next kill", patience=600)
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(victim.start)
            shots.append(type(victim).__name__)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(shoot())
        yield shots


async def is_due(harness: StageHarness, number: int) -> bool:
    """Whether so much has been submitted and done that this kill is next."""
    try:
        jobs = (await harness.jetstream.stream_info("JOBS")).state
    except (NatsError, TimeoutError):
        return False
    submitted, done = jobs.last_seq, jobs.last_seq - jobs.messages
    return (submitted + done) * KILLS >= 2 * JOBS * (number + 0.5)


async def none_left(harness: StageHarness) -> bool:
    try:
        jobs = (await harness.jetstream.stream_info("JOBS")).state.messages
        timers = (await harness.jetstream.stream_info("TIMERS")).state.messages
    except (NatsError, TimeoutError):
        return False
    return not jobs + timers


async def test_every_job_takes_effect_once_and_the_log_replays_to_the_same_states(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as broker, workers(broker, tmp_path) as running:
        async with open_stage_harness(broker.url) as harness:
            job_store = JobStore(harness.client, harness.jetstream)
            async with fire(harness, broker, running) as shots:
                await submit_all(job_store)
                await until(lambda: none_left(harness), "all jobs done", patience=600)
            assert Counter(shots) == {"ServiceProcess": KILLS - KILLS // 3, "NatsServer": KILLS // 3}
            entries = {(job.tenant, job.id): job for tenant in TENANTS for job in await all_jobs(job_store, tenant)}
            assert Counter(job.state for job in entries.values()) == {JobState.SUCCEEDED: JOBS}
            marks = await harness.jetstream.key_value("marks")
            assert sorted(await marks.keys()) == sorted(f"j{number}" for number in range(JOBS))
            replayed = await last_events(harness)
            assert {key: job.state for key, job in replayed.items()} == {k: job.state for k, job in entries.items()}
            assert {key: job.event for key, job in replayed.items()} == {k: job.event for k, job in entries.items()}
            ends = await harness.jetstream.stream_info("JOB_EVENTS", subjects_filter="event.job.*.succeeded")
            assert Counter((ends.state.subjects or {}).values()) == {1: JOBS}
            assert (await harness.jetstream.stream_info("DEAD_LETTERS")).state.messages == 0


async def last_events(harness: StageHarness) -> dict[tuple[str, str], Job]:
    """What the audit log says: the last event of every job, by tenant and id."""
    jobs: dict[tuple[str, str], Job] = {}
    async for message in stored_events(harness.jetstream, "event.job.>"):
        job = Job.model_validate_json(message.data)
        jobs[job.tenant, job.id] = job.model_copy(update={"event": message.metadata.sequence.stream})
    return jobs


async def all_jobs(job_store: JobStore, tenant: str) -> list[Job]:
    return await job_store.list(tenant, limit=JOBS)
