"""Problems in OpenAI's form: `{"error": {message, type, param, code}}` under the status its clients expect."""

from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from services.gateway.http.problems import Dialect, with_common_problems
from services.gateway.http.sse import Event
from shared.contracts.problems import URN, Problem, ProblemDetails, ProblemType
from shared.telemetry.tracing import trace_id

__all__ = ["GENERATION_ERRORS", "STREAM", "DIALECT", "ErrorBody", "error_event", "errors"]

CODES: Final = {
    ProblemType.MODEL_NOT_FOUND.code: "model_not_found",
    ProblemType.CONTEXT_EXCEEDED.code: "context_length_exceeded",
    ProblemType.UNAUTHENTICATED.code: "invalid_api_key",
    ProblemType.RATE_LIMITED.code: "rate_limit_exceeded",
}
"""The codes of OpenAI for the same errors; all other problems keep their own."""

PARAMS: Final = {ProblemType.CONTEXT_EXCEEDED.code: "messages", ProblemType.INVALID_QUESTION.code: "messages"}


class ErrorDetails(BaseModel):
    """`sluice` is the problem as all other paths of the API tell it."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None
    sluice: ProblemDetails


class ErrorBody(BaseModel):
    error: ErrorDetails


def errors(*kinds: ProblemType) -> dict[int | str, dict[str, Any]]:
    """For the API's document: the error responses of an endpoint, besides those that any may have."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for kind in with_common_problems(kinds):
        found[_status(kind.status)].append(f"`{CODES.get(kind.code, kind.code)}`: {kind.title}")
    described: dict[int | str, str] = {status: ". ".join(titles) for status, titles in sorted(found.items())}
    described["default"] = "Any other error"
    return {status: {"model": ErrorBody, "description": description} for status, description in described.items()}


def error_event(problem: Problem) -> Event:
    """The last event of a stream that breaks off: clients raise it as an error."""
    return Event(to_json({"error": _error(problem.details)}))


def _render(details: ProblemDetails, headers: Mapping[str, str]) -> Response:
    chosen = dict(headers)
    if details.status == HTTPStatus.CONFLICT:
        # The SDKs retry a 409, as for a lock.
        chosen["x-should-retry"] = "false"
    return Response(to_json({"error": _error(details)}), _status(details.status), chosen, "application/json")


DIALECT: Final = Dialect(
    paths=("/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/files", "/v1/batches"),
    render=_render,
)


def _error(details: ProblemDetails) -> dict[str, Any]:
    code = details.type.removeprefix(URN) if details.type.startswith(URN) else None
    problem = details.model_dump(exclude_none=True) | {"trace_id": trace_id()}
    return {
        "message": details.detail or details.title,
        "type": _kind(details.status),
        "param": _param(details, code),
        "code": CODES.get(code, code) if code else None,
        "sluice": problem,
    }


def _status(status: int) -> int:
    """OpenAI's API has one status for every invalid request."""
    return 400 if status == HTTPStatus.UNPROCESSABLE_ENTITY else status


def _kind(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


def _param(details: ProblemDetails, code: str | None) -> str | None:
    """The first member of the request that the problem names."""
    extras: dict[str, Any] = details.model_extra or {}
    if named := extras.get("param"):
        return str(named)
    for mistake in extras.get("errors", ()):
        if mistake["path"] != "body":
            return str(mistake["path"])
    return PARAMS.get(code or "")


GENERATION_ERRORS: Final = errors(
    ProblemType.MODEL_NOT_FOUND,
    ProblemType.CONTEXT_EXCEEDED,
    ProblemType.TOO_LARGE,
    ProblemType.QUEUE_FULL,
    ProblemType.STAGE_UNAVAILABLE,
    ProblemType.DEADLINE_EXCEEDED,
    ProblemType.ANSWER_INTERRUPTED,
    ProblemType.ENGINE_FAILED,
    ProblemType.STAGE_FAILED,
)
"""What any endpoint that calls a model may report."""

STREAM: Final = "Chunks as `data` without an event name, then `[DONE]`; or an error instead of what is left."
