"""The specs of jobs. They are kept as long as the job's history, so that a job can be shown and run again."""

from nats.js import JetStreamContext

from shared.contracts.jobs import JobSpec, decode_spec
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import Repository
from shared.nats.subjects import JOB_SPECS

__all__ = ["SpecStore"]


class SpecStore:
    """The specs of all tenants' jobs."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records: Repository[JobSpec] = Repository(jetstream, JOB_SPECS, decode_spec)

    async def keep(self, tenant: str, job: str, spec: JobSpec) -> None:
        await self._records.put(f"{tenant}.{job}", spec)

    async def get(self, tenant: str, job: str) -> JobSpec:
        """Raises Problem NOT_FOUND."""
        spec = await self._records.get(f"{tenant}.{job}")
        if spec is None:
            raise Problem(ProblemType.NOT_FOUND, f"The spec of the job '{job}' is no longer known.")
        return spec
