"""Takes the events of experiment runs off the log of jobs and copies the runs to MLflow."""

from typing import Final, NamedTuple

from prometheus_client import Gauge
from pydantic import ValidationError

from services.scheduler.tracking.copy_worker import CopyWorker
from services.scheduler.tracking.run_mirror import RunMirror, server_id
from services.scheduler.tracking.settings import TrackingSettings
from shared.contracts.jobs import Job, JobState
from shared.contracts.problems import Problem
from shared.contracts.runs import RUN_KINDS
from shared.nats.subjects import JOB_EVENTS
from shared.runtime.delivery import Delivery
from shared.service.bus import Bus
from shared.stores.jobs.store import JobStore

__all__ = ["RunCopyWorker"]

WAITING: Final = Gauge("sluice_mlflow_waiting", "Events that are not copied to MLflow so far, and runs that go on.")


class _Event(NamedTuple):
    """A job as an event says it, and the event's number."""

    job: Job
    number: int


class RunCopyWorker(CopyWorker[_Event]):
    def __init__(
        self, bus: Bus, job_store: JobStore, mirror: RunMirror, settings: TrackingSettings, *, ack_wait: float
    ) -> None:
        name = f"mlflow_{server_id(settings)}"
        super().__init__(bus, settings, stream=JOB_EVENTS, consumer=name, waiting=WAITING, ack_wait=ack_wait)
        self._job_store = job_store
        self._mirror = mirror

    async def _repair(self) -> None:
        await self._bus.topology.ensure()
        await self._bus.topology.ensure_event_consumer(self._name)

    def _item(self, delivery: Delivery) -> _Event | None:
        try:
            job = Job.model_validate_json(delivery.data)
        except ValidationError:
            return None  # it is not an event of ours
        copied = job.kind in RUN_KINDS and self._copies(job.tenant) and job.state is not JobState.QUEUED
        return _Event(job, delivery.sequence) if copied else None

    def _named(self, item: _Event) -> str:
        return f"the run {item.job.id}"

    async def _copy(self, item: _Event) -> float | None:
        job = await self._latest(item)
        await self._mirror.copy(job)
        if not job.state.ended and (job := await self._latest(item)).state.ended:
            await self._mirror.copy(job)  # its end was copied meanwhile, or is now, and must not be copied over
        # A run that goes on comes again, so that what it logs is seen. Its end is an event of its own.
        goes_on = item.job.state is JobState.RUNNING and not job.state.ended
        return self._settings.mlflow_live_seconds if goes_on else None

    async def _is_final(self, item: _Event) -> bool:
        return (await self._latest(item)).state.ended

    async def _latest(self, item: _Event) -> Job:
        """The job as it is now: what the event says, or what has become of it since."""
        try:
            record = await self._job_store.get(item.job.tenant, item.job.id)
        except Problem:
            return item.job  # its record has expired
        return record if record.event >= item.number else item.job
