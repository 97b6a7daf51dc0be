"""Calls as requests of ASGI: so they go through what surrounds every request over HTTP, and end as those do."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import grpc
from fastapi import FastAPI
from google.protobuf.message import Message
from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Sent

from services.gateway.auth.dependencies import authenticate
from services.gateway.context import REQUEST_CONTEXT
from services.gateway.http.problems import response_to
from services.gateway.inference.grpc.errors import PROBLEM, status_of
from services.gateway.inference.grpc.methods import WRITE, Method, Write
from shared.service.http_protocol import DEPARTURE, Departure

__all__ = ["Call", "CallApp", "Read"]

CALL: Final = "sluice.grpc_call"
"""Member of an ASGI scope: the `Call`."""

HEADERS: Final = frozenset({"authorization", "x-api-key", "x-sluice-identity", "traceparent", "tracestate"})
"""Metadata that count. No browser calls by gRPC, so cookies, hosts and origins say nothing."""

RETURNED: Final = frozenset(
    {b"x-trace-id", b"x-request-id", b"retry-after", b"ratelimit", b"ratelimit-policy", PROBLEM.encode()}
)

MARGIN: Final = 0.1
"""Seconds before a client's deadline, or so much of a shorter one, that are kept for saying what was late."""

Context = grpc.aio.ServicerContext[Any, Any]

Read = Callable[[], Awaitable[Message]]
"""Reads and decodes the message of a call. Raises Problem."""


class Call:
    """One call, and once it has run the metadata, the status that it ended with, and the message if there is one."""

    def __init__(self, method: Method, context: Context, read: Read, write: Write | None = None) -> None:
        self.method = method
        self.read = read
        self.metadata: list[tuple[str, str]] = []
        self.message: Message | None = None
        self.response: Message | None = None
        self.code, self.text = grpc.StatusCode.UNKNOWN, ""
        self.latest: float | None = None
        remaining = context.time_remaining()
        if remaining is not None:
            self.latest = time.time() + remaining - min(MARGIN, remaining / 10)
        self._scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "2",
            "method": "POST",
            "scheme": "http",
            "path": method.path,
            "raw_path": method.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [
                (name.encode(), value.encode("latin-1", "replace"))
                for name, value in context.invocation_metadata() or ()
                if name in HEADERS and isinstance(value, str)
            ],
            "client": _client(context.peer()),
            "server": None,
            # gRPC cancels the task of a call whose client leaves.
            DEPARTURE: Departure(),
            CALL: self,
            WRITE: write,
        }

    async def run(self, app: ASGIApp) -> None:
        await app(self._scope, _no_body, self._send)

    async def _send(self, sent: Sent) -> None:
        if sent["type"] == "http.response.start":
            self.metadata = [
                (name.decode(), value.decode("latin-1")) for name, value in sent["headers"] if name in RETURNED
            ]


class CallApp:
    """The innermost ASGI app: authenticates a call before it reads its message, and runs its method."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope[CALL]
        scope["app"], scope["route"] = self._app, call.method
        request = Request(scope, receive)
        try:
            await authenticate(scope, call.method.required, any_host=True)
            scope[REQUEST_CONTEXT] = replace(scope[REQUEST_CONTEXT], latest=call.latest)
            call.message = await call.read()
            call.response = await call.method.run(request, call.message)
            call.code, response = grpc.StatusCode.OK, Response()
        except Exception as error:  # noqa: BLE001  (it becomes a status)
            response = await response_to(request, error)
            call.code, call.text = status_of(response)
        span = trace.get_current_span()
        span.set_attribute("rpc.system", "grpc")
        span.set_attribute("rpc.grpc.status_code", call.code.value[0])
        await response(scope, receive, send)


async def _no_body() -> NoReturn:
    raise AssertionError("a call has no body but its message")


def _client(peer: str) -> tuple[str, int] | None:
    """The address in a name such as `ipv6:%5B::1%5D:50051`."""
    kind, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") and port.isdecimal() else None
