"""What was asked for, by job: kept as long as the job's history, so that a job can be looked at and run again."""

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from shared.contracts.jobs import JobSpec, decode_spec
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import JOB_SPECS

__all__ = ["SpecStore"]


class SpecStore:
    """The specs of all tenants' jobs."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def keep(self, tenant: str, job: str, spec: JobSpec) -> None:
        await (await self._open()).put(f"{tenant}.{job}", spec.model_dump_json().encode())

    async def get(self, tenant: str, job: str) -> JobSpec:
        """Raises Problem NOT_FOUND."""
        try:
            entry = await (await self._open()).get(f"{tenant}.{job}")
        except KeyNotFoundError:
            raise Problem(ProblemType.NOT_FOUND, f"What the job '{job}' was to do is no longer known.") from None
        return decode_spec(entry.value or b"")

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(JOB_SPECS)
        return self._bucket
