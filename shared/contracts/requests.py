"""Requests to the HTTP API as events: any gateway answers one as it answers the same request over HTTP.

They travel like all other work, as queries to the stage `request` on the batch lane, whose workers are the gateways.
The stop's params are a `Request`, and the answer is a `Response` in the envelope's notes.
"""

from typing import Final

from pydantic import ValidationError

from shared.contracts.envelope import Query, Stop, Wire
from shared.contracts.jobs import Endpoint
from shared.contracts.keys import EVERY_COLLECTION
from shared.contracts.problems import Problem, ProblemType

__all__ = ["REQUEST", "Payload", "Request", "Response"]

REQUEST: Final = "request"
RESPONSE: Final = "response"


class Payload(Wire):
    """A JSON text: itself, or the artifact that holds it where it is too large for a message."""

    text: str = ""
    artifact: str | None = None


class Request(Wire):
    """A POST of a JSON body, which may name collections that match one of the patterns."""

    endpoint: Endpoint
    body: Payload
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
    body: Payload = Payload()

    def noted(self, query: Query) -> Query:
        """The query with this response to it."""
        return query.model_copy(update={"notes": {**query.notes, RESPONSE: self.model_dump(mode="json")}})

    @classmethod
    def of(cls, query: Query) -> "Response":
        """The response that a gateway has noted. Raises pydantic.ValidationError where there is none."""
        return cls.model_validate(query.notes.get(RESPONSE))
