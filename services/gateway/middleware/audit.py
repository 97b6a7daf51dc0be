"""CORS, the headers about rate limits, and the audit log."""

import logging
import re
from http import HTTPStatus
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.auth.authenticator import Authenticator, api_key_of
from services.gateway.auth.principal import Principal
from services.gateway.context import AUDIT_DETAILS, REQUEST_CONTEXT, RequestContext
from services.gateway.http.problems import CLIENT_LEFT
from services.gateway.settings import Audit, GatewaySettings
from shared.contracts.keys import key_id

__all__ = ["audit_middleware"]

log = logging.getLogger("sluice.audit")

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
QUERY_PATHS: Final = (
    "/v1/query",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v2/rerank",
)
"""Paths whose POST changes nothing."""

INFERENCE: Final = re.compile(
    r"/v2/models/[^/]+(/versions/[^/]+)?/(infer|generate|generate_stream)|/v1/models/[^/]+:predict"
    r"|/inference\.GRPCInferenceService/(?!RepositoryModel(Load|Unload)$)\w+"
)
"""The same, of models; and methods of gRPC."""

REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})

REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "X-API-Key",
    "X-Sluice-Identity",
    "traceparent",
    "tracestate",
)
"""Headers that pages of the allowed origins may send."""

RESPONSE_HEADERS: Final = (
    "ETag",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
    "X-Trace-Id",
)
"""Headers that they may read."""

PREFLIGHT_SECONDS: Final = 600

LONGEST_OBJECT: Final = 500
"""Characters of a path in the audit log."""


def audit_middleware(app: ASGIApp, authenticator: Authenticator, settings: GatewaySettings) -> ASGIApp:
    """The app with the audit log around it, and CORS where the settings name origins."""
    app = _AuditMiddleware(app, authenticator, settings.audit)
    if not settings.origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.origins,
        allow_methods=("GET", "POST", "PUT", "DELETE"),
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
        max_age=PREFLIGHT_SECONDS,
    )


class _AuditMiddleware:
    """Adds the limits of its key to each response, and logs changes and refusals, where keys are required."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, audit: Audit) -> None:
        self._app = app
        self._authenticator = authenticator
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._authenticator.required:
            await self._app(scope, receive, send)
            return
        status = CLIENT_LEFT
        created = ""

        async def send_audited(message: Message) -> None:
            nonlocal status, created
            if message["type"] == "http.response.start":
                status = message["status"]
                created = next((value.decode() for name, value in message["headers"] if name == b"location"), "")
                principal = _principal(scope)
                if principal is not None and principal.limits is not None:
                    message = {**message, "headers": [*message["headers"], *principal.limits.headers()]}
            await send(message)

        try:
            await self._app(scope, receive, send_audited)
        finally:
            if self._is_logged(scope, status):
                _log(scope, status, created)

    def _is_logged(self, scope: Scope, status: int) -> bool:
        if self._audit is Audit.OFF or "route" not in scope:
            return False
        if self._audit is Audit.ALL or status in REFUSED:
            return True
        return scope["method"] not in READS and not _is_query(scope["path"])


def _is_query(path: str) -> bool:
    return path in QUERY_PATHS or INFERENCE.fullmatch(path) is not None


def _principal(scope: Scope) -> Principal | None:
    context: RequestContext | None = scope.get(REQUEST_CONTEXT)
    return None if context is None else context.principal


def _log(scope: Scope, status: int, created: str) -> None:
    """Log the key, who asks through it, the action, its object and its outcome. `object` is what was created, or else
    the path."""
    principal = _principal(scope)
    key = principal.key if principal is not None else key_id(api_key_of(scope["headers"]) or "")
    client = scope.get("client")
    query = scope["query_string"].decode("latin-1")
    path = scope["path"] + (f"?{query}" if query else "")
    log.info(
        "audit",
        extra={
            "key": key or "",
            "key_name": principal.name if principal is not None else "",
            "user": principal.user if principal is not None else "",
            "tenant": principal.tenant if principal is not None else "",
            "action": f"{scope['method']} {getattr(scope['route'], 'path', '')}",
            "object": created or path[:LONGEST_OBJECT],
            "status": status,
            "client": client[0] if client else "",
            **scope.get(AUDIT_DETAILS, {}),
        },
    )
