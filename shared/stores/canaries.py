"""Counts of canaries in the bucket `canaries`: each gateway writes its own, `<tenant>.<job>.<id of the gateway>`."""

from nats.js import JetStreamContext

from shared.contracts.canaries import CanaryCounts
from shared.nats.kv import Repository
from shared.nats.subjects import CANARIES

__all__ = ["CanaryStore"]


class CanaryStore:
    """The counts stay for as long as the history of jobs. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, CANARIES, CanaryCounts.model_validate_json, noun="canary")

    async def put(self, tenant: str, job: str, writer: str, counts: CanaryCounts) -> None:
        """Write what one gateway has counted so far, instead of what it wrote before."""
        await self._records.put(f"{tenant}.{job}.{writer}", counts)

    async def total(self, tenant: str, job: str) -> CanaryCounts:
        """What all gateways have counted of the canary of this job."""
        return CanaryCounts.total(await self._records.list(f"{tenant}.{job}.*"))
