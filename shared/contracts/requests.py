"""Requests to the HTTP API as events: any gateway answers one as it answers the same request over HTTP.

They travel like all other work, as queries to the stage `request` on the batch lane, whose workers are the gateways.
The stop's params are a `Request`, and the answer is a `Response` in the envelope's results.
"""

from typing import Final

from pydantic import ValidationError

from shared.contracts.envelope import Query, Stop
from shared.contracts.jobs import Endpoint
from shared.contracts.keys import EVERY_COLLECTION
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import Payload, Response
from shared.contracts.wire import Wire

__all__ = ["REQUEST", "Request", "response_to"]

REQUEST: Final = "request"


class Request(Wire):
    """A POST of a JSON body, which may name collections that match one of the patterns. `principals` are who asks."""

    endpoint: Endpoint
    body: Payload
    collections: tuple[str, ...] = EVERY_COLLECTION
    principals: tuple[str, ...] = ()

    def stop(self) -> Stop:
        return Stop(stage=REQUEST, params=self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def of(cls, query: Query) -> "Request":
        """The request that a query to the stage is. Raises Problem INVALID_REQUEST."""
        try:
            return cls.model_validate(query.stop.params)
        except ValidationError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"This is not a request: {error}") from None


def response_to(query: Query) -> Response:
    """The gateway's response to a request. Raises pydantic.ValidationError where there is none."""
    if query.results is not None and query.results.response is not None:
        return query.results.response
    return Response.model_validate(query.notes.get("response"))  # from a gateway of the version before
