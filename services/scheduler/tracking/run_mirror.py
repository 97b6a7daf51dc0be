"""Copies an experiment run to MLflow. A copy can be made again at any time, by any scheduler, with the same effect."""

import asyncio
import hashlib
from typing import Final
from weakref import WeakValueDictionary

from nats.js import JetStreamContext

from services.scheduler.tracking.mlflow_client import Entry, MLflowClient, MLflowRefusedError
from services.scheduler.tracking.mlflow_run import (
    JOB_TAG,
    STATUS,
    experiment_name,
    metrics_of,
    outputs_of,
    params_of,
    run_name,
    tags_of,
)
from services.scheduler.tracking.settings import TrackingSettings
from shared.contracts.jobs import Job
from shared.contracts.metrics import METRICS_FILE, MetricHistory
from shared.contracts.problems import Problem
from shared.contracts.wire import Wire
from shared.nats.kv import Repository
from shared.nats.subjects import CHECKPOINTS
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore

__all__ = ["RunCopy", "RunMirror", "server_id"]


class RunCopy(Wire):
    """What is known of a run's copy: the id that it has in MLflow, the last step of each metric, the files that are
    there, and whether the parameters are."""

    run: str
    steps: dict[str, int] = {}
    files: tuple[str, ...] = ()
    params: bool = False


class RunMirror:
    """One per process. Methods raise MLflowError and nats errors.

    Which run of MLflow is the copy of a job is kept beside the job's checkpoint, where the first to write wins: MLflow
    itself would take any number of runs for one job.
    """

    def __init__(
        self,
        client: MLflowClient,
        settings: TrackingSettings,
        job_store: JobStore,
        artifacts: Artifacts,
        jetstream: JetStreamContext,
    ) -> None:
        self._client = client
        self._settings = settings
        self._job_store = job_store
        self._artifacts = artifacts
        self._copies = Repository(jetstream, CHECKPOINTS, RunCopy.model_validate_json, noun="copy")
        self._server: Final = server_id(settings)
        self._experiments: dict[str, str] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def copy(self, job: Job) -> None:
        """Bring the copy of a run up to date."""
        # Its start and its end may come at once, and each would begin a copy.
        async with self._locks.setdefault(job.id, asyncio.Lock()):
            await self._copy_again_if_lost(job)

    async def run_of(self, tenant: str, job: str) -> str | None:
        """The id that the copy of a job's run has in MLflow; None where there is none so far."""
        known = await self._copies.get(self._key(tenant, job))
        return known.run if known else None

    async def _copy_again_if_lost(self, job: Job) -> None:
        try:
            await self._copy(job)
        except MLflowRefusedError as error:
            if not error.missing:
                raise
            # The server has lost its runs, or its experiments: begin anew, once.
            self._experiments.clear()
            await self._copies.purge(self._key(job.tenant, job.id))
            await self._copy(job)

    async def _copy(self, job: Job) -> None:
        experiment = await self._experiment(experiment_name(self._settings, job))
        known = await self._known(job, experiment)
        history = await self._history(job)
        metrics = metrics_of(history, known.steps)
        params = [] if known.params else await self._params(job)
        parent = await self._parent(job)
        ended = job.state.ended
        await self._client.log(
            known.run,
            params=params,
            tags=tags_of(job, self._settings, parent),
            metrics=[*metrics, *(outputs_of(job, history) if ended else ())],
        )
        files = await self._upload(job, known) if ended else known.files
        await self._client.update_run(known.run, STATUS[job.state], job.finished_at if ended else None)
        if ended:
            await self._remove_others(job, experiment, known.run)
        steps = {name: history.points(name)[-1].step for name in history.names if history.points(name)}
        after = known.model_copy(update={"steps": {**known.steps, **steps}, "files": files, "params": True})
        if after != known:
            await self._copies.put(self._key(job.tenant, job.id), after)

    async def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = await self._client.experiment(name)
        return self._experiments[name]

    async def _known(self, job: Job, experiment: str) -> RunCopy:
        """The copy, which is begun where there is none."""
        key = self._key(job.tenant, job.id)
        if (known := await self._copies.get(key)) is not None:
            return known
        # A scheduler may have died between the two writes.
        found = await self._client.runs_with(experiment, JOB_TAG, job.id)
        run = found[0] if found else await self._begin(job, experiment)
        kept, _ = await self._copies.create(key, RunCopy(run=run))
        if kept.run != run:
            await self._client.delete_run(run)
        return kept

    async def _begin(self, job: Job, experiment: str) -> str:
        tags = tags_of(job, self._settings, None)
        return await self._client.create_run(experiment, run_name(job), job.started_at or job.created_at, tags)

    async def _params(self, job: Job) -> list[Entry]:
        try:
            return params_of(await self._job_store.specs.get(job.tenant, job.id))
        except Problem:
            return []  # nobody knows any more what it was to do

    async def _history(self, job: Job) -> MetricHistory:
        try:
            return MetricHistory.decode(await self._artifacts.get(job.tenant, f"{job.id}/{METRICS_FILE}"))
        except Problem:
            return MetricHistory()

    async def _parent(self, job: Job) -> str | None:
        """The copy of the pipeline that a run is a step of, as far as there is one."""
        return await self.run_of(job.tenant, job.options.parent) if job.options.parent else None

    async def _upload(self, job: Job, known: RunCopy) -> tuple[str, ...]:
        """Upload the files that are small enough. Returns those that are there."""
        there = list(known.files)
        for file in job.artifacts:
            if file in there:
                continue
            name = f"{job.id}/{file}"
            try:
                if await self._artifacts.size(job.tenant, name) > self._settings.mlflow_artifact_bytes:
                    continue
                data = await self._artifacts.get(job.tenant, name)
            except Problem:
                continue  # it has expired
            if not await self._client.upload(known.run, file, data):
                break
            there.append(file)
        return tuple(there)

    async def _remove_others(self, job: Job, experiment: str, run: str) -> None:
        """A scheduler that died may have left a run that nobody knows of."""
        for other in await self._client.runs_with(experiment, JOB_TAG, job.id):
            if other != run:
                await self._client.delete_run(other)

    def _key(self, tenant: str, job: str) -> str:
        return f"{tenant}.{job}.mlflow-{self._server}"


def server_id(settings: TrackingSettings) -> str:
    """What tells tracking servers apart: another one gets all runs anew."""
    return hashlib.sha256((settings.mlflow_uri or "").encode()).hexdigest()[:8]
