"""Results of steps to reuse: those of the same spec and the same input artifacts."""

import hashlib
import json

from nats.js import JetStreamContext

from shared.contracts.jobs import Job, JobSpec, JobState
from shared.contracts.problems import Problem
from shared.nats.kv import Repository
from shared.nats.subjects import STEP_CACHE
from shared.stores.artifacts import Artifacts, names_in
from shared.stores.jobs.store import JobStore

__all__ = ["StepCache"]


class StepCache:
    """The jobs whose results can be used again, of all tenants."""

    def __init__(self, jetstream: JetStreamContext, job_store: JobStore, artifacts: Artifacts) -> None:
        self._jobs = Repository(jetstream, STEP_CACHE, bytes.decode, encode=str.encode)
        self._job_store = job_store
        self._artifacts = artifacts

    async def key(self, tenant: str, spec: JobSpec, principals: tuple[str, ...] | None) -> str:
        """What a spec and the bytes of the artifacts that it names stand for, for who looks at documents so."""
        content = spec.model_dump(mode="json")
        inputs = {}
        for name in names_in(content):
            try:
                inputs[name] = await self._artifacts.digest(tenant, name)
            except Problem:
                continue  # it is not an artifact, or not any more
        seen_as = None if principals is None else sorted(principals)
        canonical = json.dumps([content, inputs, seen_as], sort_keys=True, ensure_ascii=False)
        return f"{tenant}.{hashlib.sha256(canonical.encode()).hexdigest()}"

    async def find(self, key: str, tenant: str) -> Job | None:
        """The job that has succeeded with this key, as long as it is known."""
        job_id = await self._jobs.get(key)
        if job_id is None:
            return None
        try:
            job = await self._job_store.get(tenant, job_id)
        except Problem:
            return None
        return job if job.state is JobState.SUCCEEDED else None

    async def keep(self, key: str, job: Job) -> None:
        await self._jobs.put(key, job.id)
