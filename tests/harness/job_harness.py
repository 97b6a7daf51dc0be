"""A worker of jobs inside the test's own process, of whatever kinds the test brings."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import cast

import nats
from nats.js.errors import NotFoundError

from services.scheduler.jobs.kinds import JobFunction, JobKind, Pool
from services.scheduler.jobs.queue import JobQueue
from services.scheduler.jobs.retry import forward_due_retry
from services.scheduler.jobs.runner import JobRunner
from services.scheduler.schedules.timers import TimerWorker
from services.scheduler.tracking.facts import FactRecorder
from shared.contracts.jobs import Job, JobOptions, JobSpec
from shared.contracts.problems import Problem
from shared.nats.client import connect
from shared.nats.settings import QueueSettings
from shared.nats.subjects import DEAD_LETTERS, JOB_EVENTS, JOB_SPECS, JOB_STATUS, JOBS, bucket_stream
from shared.nats.topology import Topology
from shared.service.bus import Bus
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.stores.dead_letters import DeadLetters
from shared.stores.documents import Documents
from shared.stores.jobs.store import JobStore
from shared.tasks import background
from tests.harness.stage_harness import PATIENCE, until

__all__ = ["JobHarness", "delete_jobs", "open_job_harness"]


class JobHarness:
    """The board, and workers on the same connection."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.job_store = JobStore(bus.client, bus.jetstream)
        self.artifacts = Artifacts(bus.jetstream)
        self.dead_letters = DeadLetters(bus.client, bus.jetstream)

    @asynccontextmanager
    async def working(
        self, kinds: Mapping[str, JobFunction], *, long: frozenset[str] = frozenset(), instance: str = "w"
    ) -> AsyncIterator[JobQueue]:
        """Work on these kinds while the block runs; those in `long` go back to the queue at its end."""
        made = {
            name: JobKind(name=name, pool=Pool.FLOW if name in long else Pool.SHORT, perform=perform)
            for name, perform in kinds.items()
        }
        runner = JobRunner(
            self.bus,
            self.job_store,
            self.artifacts,
            self.dead_letters,
            made,
            max_crashes=5,
            instance=instance,
            ack_wait=1.0,
            facts=FactRecorder(
                self.artifacts, Collections(self.bus.jetstream), Documents(self.bus.jetstream), revision="abc123"
            ),
        )
        queue = JobQueue(
            self.bus,
            made,
            handle=runner.handle,
            give_back=runner.give_back,
            slots=dict.fromkeys(Pool, 32),
            ack_wait=1.0,
        )
        due = TimerWorker(self.bus, {"retry": partial(forward_due_retry, self.bus.jetstream)}, ack_wait=1.0)
        hearing = await self.bus.client.subscribe("control.job.*.cancel", cb=runner.hear_cancel)
        async with background(queue.run()), background(due.run()):
            yield queue
            await asyncio.gather(queue.drain(5), due.drain(5))
        await hearing.unsubscribe()

    async def submit(self, spec: JobSpec, job: str, **options: object) -> Job:
        made, _ = await self.job_store.submit(
            spec, job=job, tenant="default", options=JobOptions.model_validate(options)
        )
        return made

    async def ended(self, job: str, *, patience: float = PATIENCE) -> Job:
        async def entry() -> Job | None:
            try:
                found = await self.job_store.get("default", job)
            except Problem:
                return None
            return found if found.state.ended else None

        result: Job = await until(entry, f"job {job} ended", patience=patience)
        return result


async def delete_jobs(url: str) -> None:
    """Remove every job of a broker, with what is said and kept of it."""
    client = await nats.connect(url)
    for stream in (JOBS, JOB_EVENTS, DEAD_LETTERS, bucket_stream(JOB_STATUS), bucket_stream(JOB_SPECS)):
        with suppress(NotFoundError):
            await client.jetstream().purge_stream(stream)
    await client.close()


@asynccontextmanager
async def open_job_harness(url: str) -> AsyncIterator[JobHarness]:
    """A job harness on a broker, whose topology is made."""
    client = await connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_ignore)
    jetstream = client.jetstream()
    topology = Topology(jetstream, QueueSettings(ack_wait=1.0))
    await topology.ensure()
    bus = SimpleNamespace(client=client, jetstream=jetstream, topology=topology, connected=True)
    try:
        yield JobHarness(cast("Bus", bus))
    finally:
        await client.close()


async def _ignore(_: Exception) -> None:
    """A broker that a test has killed is no news."""
