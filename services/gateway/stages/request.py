"""The stage `request`: requests over the bus, which the same endpoints answer as requests over HTTP.

So a line of a batch is validated, routed, answered and formatted like an HTTP request, on the batch lane. Lines wait
in the stage's queue until a gateway has room. Another gateway takes over those of a gateway that dies.
"""

import asyncio
import time
from typing import Final

from starlette.types import ASGIApp, Message, Scope

from services.gateway.auth.principal import Principal
from services.gateway.context import REQUEST_CONTEXT, RequestContext
from services.gateway.state import GatewayState
from shared.contracts.envelope import Lane, Query
from shared.contracts.jobs import Endpoint
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.requests import REQUEST, Request
from shared.contracts.results import Payload, Response
from shared.runtime.stage import Context, Stage
from shared.stores.artifacts import Artifacts
from shared.stores.payloads import PayloadStore
from shared.telemetry.tracing import trace_id

__all__ = ["RequestStage"]

RESPONSE_SECONDS: Final = 2.0
"""Seconds before the deadline of a request that are kept for a response that says why it was late."""


class RequestStage:
    """Passes requests to the app whose endpoints answer them. `app` must be set before the service starts."""

    app: ASGIApp

    def __init__(self, state: GatewayState, room: int) -> None:
        self._state = state
        canary = Request(endpoint=Endpoint.QUERY, body=Payload(text="{}"))
        self.stage = Stage(
            name=REQUEST,
            process=self._process,
            room=room,
            batch_room=room,
            lanes=(Lane.BATCH,),
            # The endpoint refuses it, and that is a response.
            canary=Query(id="canary", asked_at=0, deadline=0, reply="-", slip=(canary.stop(),)),
        )

    async def _process(self, query: Query, _: Context) -> Query:
        request = Request.of(query)
        backend = await self._state.backend()
        async with self._state.throttle.line():
            return await self._answer(query, request, backend.artifacts)

    async def _answer(self, query: Query, request: Request, artifacts: Artifacts) -> Query:
        payloads = PayloadStore(artifacts)
        principal = Principal(tenant=query.tenant, collections=request.collections, identity=request.principals)
        deadline = max(time.time(), query.deadline - RESPONSE_SECONDS)
        context = RequestContext(lane=query.lane, principal=principal, deadline=deadline)
        exchange = _Exchange(request.endpoint, await payloads.read(query.tenant, request.body), context)
        await exchange.run(self.app)
        body = await payloads.pack(query.tenant, f"request-{query.id[:48]}/response", exchange.body)
        response = Response(status=exchange.status, request_id=trace_id(), body=body)
        return query.with_result("response", response)


class _Exchange:
    """One request to an ASGI app whose client never leaves, and its response."""

    def __init__(self, endpoint: Endpoint, body: bytes, context: RequestContext) -> None:
        self.status = 0
        self.body = b""
        self._media_type = ""
        self._complete = False
        self._request: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": endpoint.value,
            "raw_path": endpoint.value.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
            "client": None,
            "server": None,
            REQUEST_CONTEXT: context,
        }

    async def run(self, app: ASGIApp) -> None:
        """Raises Problem INVALID_REQUEST for a request whose response is not JSON."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:
            # The app has logged the failure and responded to it before it raises.
            if not self._complete:
                raise
        if not self._media_type.endswith("json"):
            raise Problem(ProblemType.INVALID_REQUEST, "A batch cannot stream answers: leave out 'stream'.")

    async def _receive(self) -> Message:
        message, self._request = self._request, None
        if message is None:
            await asyncio.Event().wait()
            raise AssertionError
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: dict[bytes, bytes] = dict(message.get("headers", ()))
            self._media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self._complete = not message.get("more_body", False)
