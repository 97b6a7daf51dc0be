"""Removes Kubernetes Jobs whose jobs were cancelled while no worker could receive the cancellation."""

import logging

from nats.js import JetStreamContext

from services.scheduler.commands.kubernetes.cluster import Cluster
from services.scheduler.commands.kubernetes.errors import Refusal
from services.scheduler.commands.kubernetes.kinds import KINDS
from services.scheduler.commands.kubernetes.manifest import selector
from services.scheduler.commands.kubernetes.views import JobView
from services.scheduler.commands.settings import CommandSettings
from shared.contracts.jobs import JobState
from shared.contracts.problems import Problem, ProblemType
from shared.stores.checkpoints import Checkpoints
from shared.stores.jobs.store import JobStore

__all__ = ["sweep"]

log = logging.getLogger(__name__)


async def sweep(settings: CommandSettings, job_store: JobStore, jetstream: JetStreamContext) -> int:
    """Delete every running Job of this installation whose job has ended. Returns how many.

    Raises Problem where the cluster cannot be reached or does not allow it.
    """
    swept = 0
    async with Cluster.connect(settings) as connected:
        try:
            for kind in KINDS:
                cluster = connected.of(kind)
                if not await cluster.serves(kind):
                    continue
                for thing in await cluster.jobs(selector(settings.kubernetes_prefix)):
                    job = kind.view(thing)
                    if not job.ended and await _unwanted(job_store, job):
                        log.warning("removing the %s %s: its job %s has ended", kind.plural, job.name, job.job)
                        await cluster.delete_job(job.name)
                        await Checkpoints(jetstream).delete(job.tenant, job.job)
                        swept += 1
        except Refusal as refusal:
            raise Problem(ProblemType.COMMAND_REFUSED, str(refusal)) from refusal
    return swept


async def _unwanted(job_store: JobStore, job: JobView) -> bool:
    """Only jobs whose record says that they have ended: a Job of another installation has no record here."""
    if not job.job or not job.tenant:
        return False
    try:
        entry = await job_store.get(job.tenant, job.job)
    except Problem:
        return False
    return entry.state in (JobState.CANCELLED, JobState.FAILED)
