"""Bodies of requests: in the message itself, or as an artifact where they are too large for one."""

from typing import Final

from shared.contracts.results import Payload
from shared.stores.artifacts import Artifacts

__all__ = ["PayloadStore"]

INLINE: Final = 128 * 1024
"""Bytes of JSON that travel in the message itself; as text within JSON they can double, a response is
written twice, and a message has 1 MB."""


class PayloadStore:
    """Packs bodies into messages, and next to them what is too large. Methods raise nats errors."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def pack(self, tenant: str, name: str, body: bytes) -> Payload:
        """`name` is that of the artifact, should one be needed."""
        if len(body) <= INLINE:
            return Payload(text=body.decode())
        await self._artifacts.put(tenant, name, body)
        return Payload(artifact=name)

    async def read(self, tenant: str, load: Payload) -> bytes:
        """Raises Problem NOT_FOUND where it is not there any more."""
        return load.text.encode() if load.artifact is None else await self._artifacts.get(tenant, load.artifact)

    async def drop(self, tenant: str, load: Payload) -> None:
        """Nobody reads it any more."""
        if load.artifact is not None:
            await self._artifacts.delete(tenant, load.artifact)
