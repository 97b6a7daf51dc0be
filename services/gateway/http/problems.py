"""Problems as HTTP responses: every failure is `application/problem+json` (RFC 9457).

Paths that follow the conventions of another API have a dialect of their own.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from nats.errors import Error as NatsError
from nats.js.errors import APIError
from pydantic_core import ErrorDetails, to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.pattern_words import message_of
from shared.contracts.problems import JSON, Problem, ProblemDetails, ProblemType
from shared.nats.errors import is_storage_full
from shared.service.storage import StorageWatch, storage_full
from shared.telemetry.tracing import trace_id

__all__ = [
    "CLIENT_LEFT",
    "ClientLeftError",
    "Dialect",
    "handle_problems",
    "invalid_member",
    "invalid_members",
    "invalid_request",
    "problem_body",
    "with_common_problems",
    "response_to",
]

log = logging.getLogger(__name__)

MOST_REPORTED: Final = 20
LONGEST_MESSAGE: Final = 1000
"""Errors of a body that a problem names, and characters of each."""

CLIENT_LEFT: Final = 499
"""The status that is counted where the client disconnected before the response began."""

RETRY_AFTER: Final = {429: "1", 503: "1"}


COMMON_PROBLEMS: Final = (
    ProblemType.INVALID_REQUEST,
    ProblemType.UNAUTHENTICATED,
    ProblemType.FORBIDDEN,
    ProblemType.RATE_LIMITED,
    ProblemType.BROKER_UNAVAILABLE,
    ProblemType.STORAGE_FULL,
    ProblemType.INTERNAL,
)
"""Problems that any endpoint may report."""


class ClientLeftError(Exception):
    """The client disconnected, so nobody reads the response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The form of problems for paths with these prefixes and that ending. `render` gets the details and headers."""

    paths: tuple[str, ...]
    ending: str = ""
    render: Callable[[ProblemDetails, Mapping[str, str]], Response]


def handle_problems(app: FastAPI, *dialects: Dialect) -> None:
    """Render every exception as a problem."""
    app.state.dialects = dialects
    for kind, respond in RESPONSES.items():
        app.add_exception_handler(kind, respond)


async def response_to(request: Request, error: Exception) -> Response:
    """The response to a request that failed so."""
    respond = next(RESPONSES[kind] for kind in type(error).__mro__ if kind in RESPONSES)
    return await respond(request, error)


def with_common_problems(kinds: Iterable[ProblemType]) -> tuple[ProblemType, ...]:
    """These problems, with those that any endpoint may report, and those of reading a body."""
    own = tuple(kinds)
    return (*own, *((ProblemType.TOO_SLOW,) if ProblemType.TOO_LARGE in own else ()), *COMMON_PROBLEMS)


def problem_body(problem: Problem) -> bytes:
    """The problem as JSON in one line, with the id of its trace."""
    return _body(problem.details)


def _body(details: ProblemDetails) -> bytes:
    return to_json(details.model_dump(exclude_none=True) | {"trace_id": trace_id()})


def invalid_request(errors: Iterable[ErrorDetails]) -> Problem:
    """INVALID_REQUEST for what Pydantic found; `errors` of the problem names each place."""
    return invalid_members((error["loc"], message_of(error)) for error in errors)


def invalid_members(errors: Iterable[tuple[tuple[int | str, ...], str]]) -> Problem:
    """INVALID_REQUEST for several members of the body, each by its location; the first are reported."""
    first = islice(errors, MOST_REPORTED)
    found = [{"path": _path(location), "message": message[:LONGEST_MESSAGE]} for location, message in first]
    detail = "; ".join(f"{error['path']}: {error['message']}" for error in found[:3])
    return Problem(ProblemType.INVALID_REQUEST, detail + ".", errors=found)


def invalid_member(path: str, message: str) -> Problem:
    """INVALID_REQUEST for one member of the body."""
    return Problem(ProblemType.INVALID_REQUEST, f"{path}: {message}.", errors=[{"path": path, "message": message}])


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in location)
    return path.removeprefix(".") or "body"


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    status = error.kind.status
    if status >= 500:
        log.warning("%s", error, extra={"path": request.url.path, "status": status})
    headers = dict(error.headers)
    if status in RETRY_AFTER:
        headers.setdefault("Retry-After", RETRY_AFTER[status])
    return _response(request, error.details, headers)


def _response(request: Request, details: ProblemDetails, headers: Mapping[str, str]) -> Response:
    for dialect in request.app.state.dialects:
        if request.url.path.startswith(dialect.paths) and request.url.path.endswith(dialect.ending):
            rendered: Response = dialect.render(details, headers)
            return rendered
    return Response(_body(details), details.status, headers, JSON)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The first part of the location says where: query, path, header.
    errors: list[Any] = [{**found, "loc": found["loc"][1:]} for found in error.errors()]
    return await _problem(request, invalid_request(errors))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return await _problem(request, Problem(ProblemType.NOT_FOUND, f"There is nothing at {request.url.path}."))
    status = HTTPStatus(error.status_code)
    detail = str(error.detail) if error.detail != status.phrase else status.description
    # RFC 9457, 4.2.1: a problem that adds nothing to its status code has no type of its own.
    plain = ProblemDetails(type="about:blank", title=status.phrase, status=status.value, detail=detail)
    return _response(request, plain, error.headers or {})


async def _broker(request: Request, error: Exception) -> Response:
    if why := await _storage_full(request, error):
        return await _problem(request, storage_full(why))
    code = getattr(error, "code", None)
    if isinstance(error, APIError) and (code is None or code < 500):
        return await _unknown(request, error)
    log.warning("the broker did not answer a request: %r", error, extra={"path": request.url.path})
    detail = "The message broker cannot be reached or does not answer. Try again in a moment."
    return await _problem(request, Problem(ProblemType.BROKER_UNAVAILABLE, detail))


async def _storage_full(request: Request, error: Exception) -> str:
    """Why the broker does not store anything, if that is the reason of the error. A full disk is told by silence."""
    if isinstance(error, APIError):
        return str(error.description) if is_storage_full(error) else ""
    watch: StorageWatch | None = request.app.state.gateway.storage
    if watch is None or not isinstance(error, TimeoutError):
        return ""
    return watch.full or await watch.check()


async def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _unknown(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error, extra={"path": request.url.path})
    detail = "This is a defect of Sluice. The log of the gateway says more under the trace id."
    return await _problem(request, Problem(ProblemType.INTERNAL, detail))


RESPONSES: Final[dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]] = {
    Problem: _problem,
    RequestValidationError: _validation,
    HTTPException: _http,
    NatsError: _broker,
    TimeoutError: _broker,
    ClientLeftError: _left,
    Exception: _unknown,
}
