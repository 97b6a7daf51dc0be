"""What stages hand on beside an embedding and passages."""

from shared.contracts.problems import ProblemDetails
from shared.contracts.wire import Wire

__all__ = ["IndexOutcome", "Payload", "Response", "Results"]


class Payload(Wire):
    """A JSON text: itself, or the artifact that holds it where it is too large for a message."""

    text: str = ""
    artifact: str | None = None


class Response(Wire):
    """An HTTP status and the JSON body under it, with the trace id under which the gateways' logs say more."""

    status: int
    request_id: str = ""
    body: Payload = Payload()


class IndexOutcome(Wire):
    """The documents that the stage `index` did not write, by id."""

    superseded: tuple[str, ...] = ()
    refused: dict[str, ProblemDetails] = {}


class Results(Wire):
    """The results of the stages `index` and `request`."""

    index: IndexOutcome | None = None
    response: Response | None = None
