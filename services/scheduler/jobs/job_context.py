"""One attempt at a job, as the function of its kind sees it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from io import BufferedIOBase
from typing import Final

import anyio
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from pydantic import JsonValue

from services.scheduler.jobs.metric_log import MetricLog
from shared.contracts.jobs import DocumentError, ItemWarning, Job, JobProgress, JobSpec
from shared.contracts.metrics import METRICS_FILE
from shared.contracts.problems import Problem
from shared.contracts.warnings import DocumentWarning
from shared.stores.artifacts import Artifacts
from shared.stores.checkpoints import Checkpoints
from shared.stores.jobs.store import JobStore
from shared.tasks import background

__all__ = ["JobContext"]

log = logging.getLogger(__name__)

INTERVAL: Final = 0.5
"""Seconds between two reports of progress."""

KEPT_ERRORS: Final = 100

LAST_WORDS: Final = 5.0
"""Seconds for a kind that was broken off to undo what it has built."""


class JobContext:
    """What a kind reads and leaves behind. Outputs and artifacts are shown once the job has ended well."""

    def __init__(
        self, job: Job, spec: JobSpec, *, job_store: JobStore, artifacts: Artifacts, jetstream: JetStreamContext
    ) -> None:
        self.job = job
        self.spec = spec
        self.revision = job.revision
        self.outputs: dict[str, JsonValue] = {}
        self.artifacts: list[str] = []
        self._job_store = job_store
        self._store = artifacts
        self._checkpoints = Checkpoints(jetstream)
        self._progress = job.progress.model_copy(update={"done": 0, "failed": 0})
        self._errors: list[DocumentError] = []
        self._warnings: list[ItemWarning] = []
        self._dirty = False
        self._metrics = MetricLog(lambda: artifacts.get(job.tenant, f"{job.id}/{METRICS_FILE}"), self.attach)

    @property
    def tenant(self) -> str:
        return self.job.tenant

    @property
    def principals(self) -> tuple[str, ...]:
        """Who the job looks at documents as."""
        return self.job.options.principals or ()

    async def report(self, change: Callable[[Job], Job]) -> None:
        """Change the job's record."""
        await self._job_store.update(self.job.tenant, self.job.id, change)

    def progress(self, **counts: int | str) -> None:
        """Set members of the job's progress, such as done=10, total=100, message="..."; `reporting` shows them."""
        self._progress = self._progress.model_copy(update=counts)
        self._dirty = True

    def add_progress(self, **counts: int) -> None:
        """Add to members of the job's progress."""
        self.progress(**{name: getattr(self._progress, name) + count for name, count in counts.items()})

    def begin_progress(self, *, documents: int, message: str = "") -> None:
        """Begin a job on documents, or begin it again: nothing is done, and nothing has failed."""
        self._progress = JobProgress(documents=documents, message=message)
        self._errors.clear()
        self._warnings.clear()
        self._dirty = True

    @property
    def shown_progress(self) -> JobProgress:
        return self._progress

    def fail_item(self, item: str, problem: Problem) -> None:
        """One of the job's items failed; the job goes on."""
        self.add_progress(failed=1)
        if len(self._errors) < KEPT_ERRORS:
            kind = problem.kind
            self._errors.append(DocumentError(document=item, type=kind.uri, title=kind.title, detail=problem.detail))

    def warn_item(self, item: str, warnings: Sequence[DocumentWarning]) -> None:
        """One of the job's items was done, but not all of it."""
        self.add_progress(warned=1)
        room = KEPT_ERRORS - len(self._warnings)
        self._warnings += [ItemWarning(document=item, kind=one.kind, detail=one.detail) for one in warnings[:room]]

    @asynccontextmanager
    async def reporting(self, interval: float = INTERVAL) -> AsyncIterator[None]:
        """Show progress while the block runs, and once more at its end: also where that is a Problem, which may be
        explained by what failed before."""
        try:
            async with background(self._keep_reporting(interval)):
                yield
        except Problem:
            await self.show()
            raise
        await self.show()

    async def checkpoint(self) -> JsonValue:
        """What an earlier try has saved; None if there is nothing."""
        return await self._checkpoints.get(self.job.tenant, self.job.id)

    async def save(self, state: JsonValue) -> None:
        """Save how far the job is, at most some 100 kB as JSON, for the next try if this one breaks off. What was
        logged of metrics before is kept too."""
        await self._metrics.flush()
        await self._checkpoints.put(self.job.tenant, self.job.id, state)

    async def forget(self) -> None:
        """Remove the checkpoint, which else goes with the job's history.

        It is not removed at a job's end: a failed job may be tried again from it, a pipeline's is shown as its steps,
        and a worker that was taken for dead may still go by it. One that is to roll back and finds it gone would roll
        back once more.
        """
        await self._checkpoints.delete(self.job.tenant, self.job.id)

    async def attach(self, file: str, data: bytes | BufferedIOBase) -> str:
        """Keep a file with the job. Returns the artifact's name."""
        name = f"{self.job.id}/{file}"
        await self._store.put(self.job.tenant, name, data)
        if file not in self.artifacts:
            self.artifacts.append(file)
        return name

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log values of metrics at a step of the job's work, such as a trial or an epoch.

        They become the job's artifact `metrics.jsonl`, written every few seconds, before a checkpoint is saved, and at
        the end of a try. What an earlier try has logged of a metric stays up to the step with which this try begins it.
        Of a metric with very many points fewer are kept, the last one always; a value that is not finite is null.
        Raises ValueError for a step below 0, a name that is not a metric's, and one metric too many.
        """
        self._metrics.add(step, values)

    def writing_metrics(self, *, resumed: bool) -> AbstractAsyncContextManager[None]:
        """Write what is logged while the block runs; for who runs the job. `resumed` says that a try went before."""
        return self._metrics.writing(resumed=resumed)

    async def _keep_reporting(self, interval: float) -> None:
        while True:
            if self._dirty:
                try:
                    await self.show()
                except (NatsError, TimeoutError) as error:
                    # The job need not wait for a broker that is away; the last report does.
                    log.warning("cannot report progress: %r", error)
                    self._dirty = True
            await asyncio.sleep(interval)

    async def show(self) -> None:
        """Show progress now."""
        shown = self._take()
        await self.report(lambda job: job.model_copy(update=shown))

    def unshown(self) -> dict[str, object]:
        """The members of the job's record that progress has changed since it was shown, for who writes the record
        now."""
        return self._take() if self._dirty else {}

    def _take(self) -> dict[str, object]:
        """The members that progress changes, which count as shown from now on."""
        self._dirty = False
        return {"progress": self._progress, "errors": tuple(self._errors), "warnings": tuple(self._warnings)}

    async def undo_if_cancelled(self, undo: Callable[[], Awaitable[object]], *, or_late: bool = False) -> None:
        """For a kind that was broken off: undo what it has built if the job was cancelled, and with `or_late` if its
        deadline has passed. Otherwise the job goes on with it elsewhere. Takes some seconds at most, and raises
        nothing that may pass."""
        with suppress(Problem, NatsError, TimeoutError), anyio.move_on_after(LAST_WORDS, shield=True):
            late = or_late and self.remaining is not None and self.remaining <= 0
            if late or (await self._job_store.get(self.tenant, self.job.id)).cancel_requested:
                await undo()

    @property
    def remaining(self) -> float | None:
        """Seconds until the job's deadline; None without one."""
        deadline = self.job.options.deadline
        return None if deadline is None else deadline - time.time()
