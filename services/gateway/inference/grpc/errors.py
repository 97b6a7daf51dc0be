"""Problems as statuses of gRPC."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import grpc
from starlette.responses import Response

from services.gateway.http.problems import CLIENT_LEFT, Dialect
from shared.contracts.problems import ProblemDetails

__all__ = ["DIALECT", "PROBLEM", "SERVICE", "StatusResponse", "status_of"]

SERVICE: Final = "inference.GRPCInferenceService"

PROBLEM: Final = "sluice-problem"
"""The trailer with the type of the problem."""

LONGEST_DETAIL: Final = 1500
"""Characters of a message. The trailers of a call may have 8 KiB, where a character may take twelve bytes."""

CODES: Final[Mapping[int, grpc.StatusCode]] = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.PRECONDITION_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    # What gRPC itself says of a message that is too large.
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    CLIENT_LEFT: grpc.StatusCode.CANCELLED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.BAD_GATEWAY: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INSUFFICIENT_STORAGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class StatusResponse(Response):
    """The response to a call that failed, before it becomes trailers."""

    def __init__(self, details: ProblemDetails, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=details.status, headers={**headers, PROBLEM: details.type})
        text = details.detail or details.title
        self.message = text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"


def status_of(response: Response) -> tuple[grpc.StatusCode, str]:
    """The status of a call, by the response that a request over HTTP would have."""
    code = CODES.get(response.status_code, grpc.StatusCode.UNKNOWN)
    return code, response.message if isinstance(response, StatusResponse) else ""


DIALECT: Final = Dialect(paths=(f"/{SERVICE}/",), render=StatusResponse)
