"""How far jobs are: what each try saves for the next one, until the job's history goes."""

import json

from nats.js import JetStreamContext
from pydantic import JsonValue

from shared.contracts.pipelines.state import PipelineState
from shared.nats.kv import Repository
from shared.nats.subjects import CHECKPOINTS

__all__ = ["Checkpoints"]


def _encode(state: JsonValue) -> bytes:
    return json.dumps(state).encode()


class Checkpoints:
    """The checkpoints of all tenants' jobs."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records: Repository[JsonValue] = Repository(jetstream, CHECKPOINTS, json.loads, encode=_encode)

    async def get(self, tenant: str, job: str) -> JsonValue:
        """None where nothing is saved."""
        return await self._records.get(f"{tenant}.{job}")

    async def pipeline(self, tenant: str, job: str) -> PipelineState | None:
        """What the job of a pipeline has saved last; None where nothing is saved."""
        state = await self.get(tenant, job)
        return None if state is None else PipelineState.model_validate(state)

    async def put(self, tenant: str, job: str, state: JsonValue) -> None:
        """Save at most some 100 kB as JSON."""
        await self._records.put(f"{tenant}.{job}", state)

    async def delete(self, tenant: str, job: str) -> None:
        await self._records.purge(f"{tenant}.{job}")
