"""Requests to the HTTP API as events: any gateway answers one as it answers the same request over HTTP.

They travel like all other work, as queries to the stage `request` on the batch lane, whose workers are the gateways.
The stop's params are a `Request`, and the answer is a `Response` in the envelope's notes.
"""

from typing import Final

from pydantic import ValidationError

from shared.contracts.envelope import Query, Stop, Wire
from shared.contracts.jobs.specs import Endpoint
from shared.contracts.keys import EVERY_COLLECTION
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import Artifacts

__all__ = ["REQUEST", "Load", "Loads", "Request", "Response"]

REQUEST: Final = "request"
RESPONSE: Final = "response"

INLINE: Final = 256 * 1024
"""Bytes of JSON that travel in the message itself; as text within JSON they can double, and a message has 1 MB."""


class Load(Wire):
    """A JSON text: itself, or the artifact that holds it where it is too large for a message."""

    text: str = ""
    artifact: str | None = None


class Request(Wire):
    """A POST of a JSON body, which may name collections that match one of the patterns."""

    endpoint: Endpoint
    body: Load
    collections: tuple[str, ...] = EVERY_COLLECTION

    def stop(self) -> Stop:
        return Stop(stage=REQUEST, params=self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def of(cls, query: Query) -> "Request":
        """The request that a query to the stage is. Raises Problem INVALID_REQUEST."""
        try:
            return cls.model_validate(query.stop.params)
        except ValidationError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"This is no request: {error}") from None


class Response(Wire):
    """An HTTP status and the JSON body under it, with the trace id under which the gateways' logs say more."""

    status: int
    request_id: str = ""
    body: Load = Load()

    def noted(self, query: Query) -> Query:
        """The query with this response to it."""
        return query.model_copy(update={"notes": {**query.notes, RESPONSE: self.model_dump(mode="json")}})

    @classmethod
    def of(cls, query: Query) -> "Response":
        """The response that a gateway has noted. Raises pydantic.ValidationError where there is none."""
        return cls.model_validate(query.notes.get(RESPONSE))


class Loads:
    """Packs bodies into messages, and next to them what is too large. Methods raise nats errors."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def pack(self, tenant: str, name: str, body: bytes) -> Load:
        """`name` is that of the artifact, should one be needed."""
        if len(body) <= INLINE:
            return Load(text=body.decode())
        await self._artifacts.put(tenant, name, body)
        return Load(artifact=name)

    async def read(self, tenant: str, load: Load) -> bytes:
        """Raises Problem NOT_FOUND where it is not there any more."""
        return load.text.encode() if load.artifact is None else await self._artifacts.get(tenant, load.artifact)

    async def drop(self, tenant: str, load: Load) -> None:
        """Nobody reads it any more."""
        if load.artifact is not None:
            await self._artifacts.delete(tenant, load.artifact)
