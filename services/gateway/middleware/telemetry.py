"""Telemetry of every request: one server span, its metrics, and the trace id that the response carries."""

import asyncio
import time

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.context import REQUEST_CONTEXT
from services.gateway.http.problems import CLIENT_LEFT
from shared.telemetry.messaging import TENANT
from shared.telemetry.metrics import SECONDS, exemplar
from shared.telemetry.tracing import extract_trace, failed, trace_id, tracer

__all__ = ["TelemetryMiddleware"]

REQUESTS = Counter("sluice_gateway_requests_total", "Requests by route and status.", ("route", "status"))
DURATION = Histogram(
    "sluice_gateway_request_seconds", "Time from a request to the end of its response.", ("route",), buckets=SECONDS
)

UNOBSERVED = frozenset({"/livez", "/readyz", "/metrics"})


class TelemetryMiddleware:
    """An ASGI app around another one.

    While `draining` is set, responses ask their clients to open a new connection, elsewhere, for the next request.
    """

    def __init__(self, app: ASGIApp, draining: asyncio.Event) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNOBSERVED:
            await self._app(scope, receive, send)
            return
        await self._observe(scope, receive, send)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status = CLIENT_LEFT
        method: str = scope["method"]
        attributes = {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope["scheme"]}
        parent = extract_trace(_trace_headers(scope))
        with tracer.start_as_current_span(method, context=parent, kind=SpanKind.SERVER, attributes=attributes) as span:
            trace = trace_id(span).encode()

            async def send_observed(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    # The second name is the one under which clients for OpenAI's API report it.
                    headers = [*message["headers"], (b"x-trace-id", trace), (b"x-request-id", trace)]
                    if self._draining.is_set():
                        headers.append((b"connection", b"close"))
                    message = {**message, "headers": headers}
                await send(message)

            try:
                await self._app(scope, receive, send_observed)
            finally:
                route = f"{method} {getattr(scope.get('route'), 'path', 'unknown')}"
                if span.is_recording():
                    span.update_name(route)
                    span.set_attribute("http.route", route.partition(" ")[2])
                    span.set_attribute("http.response.status_code", status)
                    if REQUEST_CONTEXT in scope:
                        span.set_attribute(TENANT, scope[REQUEST_CONTEXT].tenant)
                    if status >= 500:
                        failed(span, str(status))
                REQUESTS.labels(route, str(status)).inc()
                DURATION.labels(route).observe(time.perf_counter() - began, exemplar())


def _trace_headers(scope: Scope) -> dict[str, str]:
    wanted = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in wanted}
