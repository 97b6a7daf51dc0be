"""A job queue that runs commands, on a broker of the test's own."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self, cast

from services.scheduler.commands.command import Command
from services.scheduler.commands.settings import CommandSettings
from services.scheduler.jobs.kinds import JobKind, Pool
from services.scheduler.jobs.queue import JobQueue
from services.scheduler.jobs.retry import forward_due_retry
from services.scheduler.jobs.runner import JobRunner
from services.scheduler.schedules.timers import TimerWorker
from shared.contracts.jobs import CommandSpec, Job, JobOptions, JobSpec, JobState, RetryPolicy
from shared.service.bus import Bus
from shared.stores.artifacts import Artifacts
from shared.stores.dead_letters import DeadLetters
from shared.stores.jobs.store import JobStore
from shared.tasks import background
from tests.harness.paths import PROGRAMS, ROOT
from tests.harness.stage_harness import PATIENCE, StageHarness, until

__all__ = ["CommandHarness", "WorkerProcess"]

PROGRAM = PROGRAMS / "command_worker.py"

QUICK = RetryPolicy(limit=3, delay=0.05, max_delay=0.05)


class CommandHarness:
    """Submits commands and runs them with the settings of a test."""

    patience = PATIENCE
    """Seconds for a job to end."""

    def __init__(self, harness: StageHarness, **settings: Any) -> None:
        self.harness = harness
        self.job_store = JobStore(harness.client, harness.jetstream)
        self.artifacts = Artifacts(harness.jetstream)
        self.settings = CommandSettings(**({"command_grace_seconds": 5.0} | settings))
        self._bus = cast(
            "Bus",
            SimpleNamespace(
                client=harness.client, jetstream=harness.jetstream, topology=harness.topology, connected=True
            ),
        )

    def kinds(self) -> dict[str, JobKind]:
        """What the queue's jobs are done by."""
        return {"command": JobKind(name="command", pool=Pool.LONG, perform=Command(self.settings))}

    @asynccontextmanager
    async def working(self, *, room: int = 8) -> AsyncIterator[JobQueue]:
        """Run jobs meanwhile, `room` of a pool at once. At the end the worker stops as a process would: what runs is
        given back."""
        kinds = self.kinds()
        dead_letters = DeadLetters(self.harness.client, self.harness.jetstream)
        runner = JobRunner(
            self._bus, self.job_store, self.artifacts, dead_letters, kinds, max_crashes=5, instance="w", ack_wait=1.0
        )
        slots = dict.fromkeys(Pool, room)
        queue = JobQueue(self._bus, kinds, handle=runner.handle, give_back=runner.give_back, slots=slots, ack_wait=1.0)
        due = TimerWorker(self._bus, {"retry": partial(forward_due_retry, self.harness.jetstream)}, ack_wait=1.0)
        hearing = await self.harness.client.subscribe("control.job.*.cancel", cb=runner.hear_cancel)
        async with background(queue.run()), background(due.run()):
            try:
                yield queue
            finally:
                await queue.drain(0.0)
                await due.drain(0.0)
        await hearing.unsubscribe()

    async def submit(self, spec: JobSpec, job: str = "j1", **options: Any) -> str:
        chosen = JobOptions(**({"retry": QUICK} | options))
        await self.job_store.submit(spec, job=job, tenant="t", options=chosen)
        return job

    async def job(self, job: str = "j1") -> Job:
        return await self.job_store.get("t", job)

    async def ended(self, job: str = "j1") -> Job:
        async def entry() -> Job | None:
            found = await self.job(job)
            return found if found.state.ended else None

        result: Job = await until(entry, f"job {job} ended", patience=self.patience)
        return result

    async def says(self, message: str, job: str = "j1") -> Job:
        """Wait until the job's progress shows a message that contains this."""

        async def entry() -> Job | None:
            found = await self.job(job)
            assert not found.state.ended, found
            return found if message in found.progress.message else None

        result: Job = await until(entry, f"job {job} to say {message!r}")
        return result

    async def run(self, spec: JobSpec, job: str = "j1", **options: Any) -> Job:
        """Submit a command and see it to its end."""
        async with self.working():
            return await self.ended(await self.submit(spec, job, **options))

    async def succeeds(self, spec: CommandSpec, **options: Any) -> Job:
        job = await self.run(spec, **options)
        assert job.state is JobState.SUCCEEDED, job
        return job

    async def log(self, job: str = "j1") -> str:
        return (await self.artifacts.get("t", f"{job}/log.txt")).decode()


class WorkerProcess:
    """A worker for commands as a process that can be killed; a context manager."""

    def __init__(self, url: str, program: Path = PROGRAM, **settings: object) -> None:
        self._command = [sys.executable, str(program), url, json.dumps(settings, default=str)]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=ROOT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
