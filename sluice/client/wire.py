"""From calls to HTTP requests, from HTTP responses to values or errors, and when to try again. No I/O."""

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Any, TypeVar

import httpx
from httpx_sse import ServerSentEvent
from pydantic import ValidationError

from sluice.api.problems import ProblemDetails
from sluice.api.queries import Delta, Done, Event, Sources
from sluice.client.call import Call
from sluice.client.encode import check_header, check_text, json_bytes
from sluice.client.errors import SluiceError, UnreachableError

__all__ = [
    "DEFAULT_URL",
    "RETRIES",
    "asynchronous",
    "cut_short",
    "event",
    "fault",
    "headers",
    "is_loopback",
    "not_a_stream",
    "pause",
    "problem_of",
    "request_arguments",
    "result",
]

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"
RETRIES = 3
LONGEST_PAUSE = 10.0
"""Seconds; a server that asks for more patience than this gets its refusal passed on to the caller."""
CONNECT_TIMEOUT = 5.0

UNEXPECTED = "urn:sluice:problem:unexpected-response"

_TEMPORARY = frozenset({502, 503, 504})


def request_arguments(call: Call[Any], default_timeout: float) -> dict[str, Any]:
    """The keyword arguments with which `httpx` builds the request of a call. Raises a `SluiceError` for what no request
    can hold: numbers that JSON does not have, and text that UTF-8 does not."""
    for text in (
        call.path,
        *chain.from_iterable(call.params),
        *call.form.values(),
        *(file.name for file in call.files),
    ):
        check_text(text)
    arguments: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "headers": dict(call.headers),
        "timeout": httpx.Timeout(call.timeout or default_timeout, connect=CONNECT_TIMEOUT),
    }
    if call.params:
        arguments["params"] = list(call.params)
    if call.files:
        arguments["files"] = [("files", (file.name, file.content)) for file in call.files]
        arguments["data"] = dict(call.form)
    elif call.chunks is not None:
        arguments["content"] = call.chunks()
    elif call.content is not None:
        arguments["content"] = call.content
    elif call.body is not None:
        arguments["content"] = json_bytes(call.body)
        arguments["headers"] |= {"Content-Type": "application/json"}
    return arguments


async def asynchronous(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, each read in a thread."""
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def result(call: Call[T], response: httpx.Response) -> T:
    """Read a complete response, or raise the problem that it reports."""
    if not response.is_success:
        raise problem_of(response)
    try:
        return call.parse(response)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise _not_sluice(response, f"the response has an unknown form ({error})") from error


def pause(call: Call[Any], attempt: int, outcome: httpx.Response | httpx.TransportError) -> float | None:
    """How many seconds to wait before sending a call again after its attempt number `attempt` (from 0).

    None: do not. A refusal by 429 is safe to repeat when the server says when; a broken connection or a
    temporary failure only where the call is safe. Refused connections are not repeated: nobody listens.
    """
    if attempt >= RETRIES:
        return None
    backoff = float(0.2 * 2**attempt)
    if isinstance(outcome, httpx.Response):
        after = _retry_after(outcome)
        if outcome.status_code == 429:
            return after if after is not None and after <= LONGEST_PAUSE else None
        return min(after or backoff, LONGEST_PAUSE) if call.safe and outcome.status_code in _TEMPORARY else None
    lost = isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)
    return backoff if call.safe and lost and not isinstance(outcome, httpx.ConnectError) else None


def problem_of(response: httpx.Response) -> SluiceError:
    """The error that a response reports; its body has been read."""
    try:
        problem = ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        return _not_sluice(response, response.text[:200])
    problem = problem.model_copy(update={"status": response.status_code})
    return SluiceError(problem, retry_after=_retry_after(response))


def fault(error: httpx.TransportError, url: str) -> UnreachableError:
    """The error for a request that got no response."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return UnreachableError(f"no Sluice at {url}; start it with `sluice up`")
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(f"{url} did not answer in time", title="Time-out")
    return UnreachableError(f"the connection to {url} broke off ({error or type(error).__name__})")


def event(sse: ServerSentEvent) -> Event | None:
    """A server-sent event of an answer; None for a kind that this version does not know."""
    match sse.event:
        case "sources":
            return Sources.model_validate_json(sse.data)
        case "delta":
            return Delta.model_validate_json(sse.data)
        case "done":
            return Done.model_validate_json(sse.data)
        case "error":
            raise SluiceError(ProblemDetails.model_validate_json(sse.data))
    return None


def cut_short() -> SluiceError:
    """The error for an answer whose stream ended without its end."""
    detail = "the stream closed before the answer was complete; ask again"
    return SluiceError(
        ProblemDetails(
            type="urn:sluice:problem:answer-interrupted",
            title="The answer broke off",
            status=502,
            detail=detail,
        )
    )


def not_a_stream(url: str) -> SluiceError:
    """The error for a response that is not a stream of events where one was asked for."""
    return SluiceError(ProblemDetails(type=UNEXPECTED, title=f"{url} answered, but not with a stream of events"))


def headers(api_key: str | None, identity: str | None = None) -> dict[str, str]:
    """The headers of every request; the key is the environment's SLUICE_API_KEY where none is given. `identity` is a
    signed token of who asks. Raises a `SluiceError` for one that no header can hold."""
    key = api_key or os.environ.get("SLUICE_API_KEY")
    check_header("the API key", key or "")
    check_header("the identity", identity or "")
    found = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return found if identity is None else {**found, "X-Sluice-Identity": identity}


def is_loopback(url: str) -> bool:
    """Whether a URL stays on this machine, where no proxy has a say."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _not_sluice(response: httpx.Response, detail: str) -> SluiceError:
    title = f"{response.request.url.copy_with(query=None)} answered {response.status_code} but not like Sluice"
    return SluiceError(
        ProblemDetails(type=UNEXPECTED, title=title, status=response.status_code, detail=" ".join(detail.split()))
    )
