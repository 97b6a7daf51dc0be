"""Authentication of every endpoint: who calls, and whether they may, before anything of the request is read."""

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.auth.authenticator import Authenticator
from services.gateway.context import REQUEST_CONTEXT, RequestContext
from shared.contracts.keys import Action

__all__ = [
    "SECURITY",
    "AuthenticatedPage",
    "AuthenticatedRoute",
    "DirectRoute",
    "authenticate",
    "authenticated_router",
    "direct_router",
    "requires",
]

REQUIRED: Final = "__sluice_actions__"

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the gateway requires keys."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
"""How a client presents a key, for the OpenAPI document."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def requires(*any_of: Action) -> Callable[[Endpoint], Endpoint]:
    """Declares that an endpoint accepts a key with any of these actions. Every endpoint declares it."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, REQUIRED, any_of)
        return endpoint

    return mark


def authenticated_router(tag: str) -> APIRouter:
    """A router of endpoints with FastAPI's parameters and dependencies."""
    return APIRouter(tags=[tag], route_class=AuthenticatedRoute)


def direct_router(tag: str) -> APIRouter:
    """A router of endpoints of the query path, which take the request and return the response."""
    return APIRouter(tags=[tag], route_class=DirectRoute)


class AuthenticatedRoute(APIRoute):
    """A route that authenticates every request. Raises TypeError for an endpoint without `@requires`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        security = [{scheme: [action.value]} for action in self.required for scheme in SECURITY]
        self.openapi_extra = {**(self.openapi_extra or {}), "security": security}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, any_of = self._endpoint_handler(), self.required

        async def authenticated(request: Request) -> Response:
            await authenticate(request.scope, any_of)
            return await handle(request)

        return authenticated

    def _endpoint_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return super().get_route_handler()

    @property
    def required(self) -> tuple[Action, ...]:
        try:
            any_of: tuple[Action, ...] = getattr(self.endpoint, REQUIRED)
        except AttributeError:
            raise TypeError(f"{self.path}: declare with @requires which actions a key needs here") from None
        return any_of


class DirectRoute(AuthenticatedRoute):
    """A route whose endpoint takes the request and returns the response, without parameters or dependencies.

    FastAPI documents it; `DirectRoutes` calls it.
    """

    def _endpoint_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


class AuthenticatedPage:
    """An ASGI app outside the API that requires a key too. `any_host`: monitoring may call it by any name."""

    def __init__(self, page: ASGIApp, *any_of: Action, any_host: bool = False) -> None:
        self._page = page
        self._any_of = any_of
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await authenticate(scope, self._any_of, any_host=self._any_host)
        await self._page(scope, receive, send)


async def authenticate(scope: Scope, any_of: tuple[Action, ...], *, any_host: bool = False) -> None:
    """Put the context of a request into its scope. Raises Problem."""
    if REQUEST_CONTEXT in scope:
        # It came over the bus, for a job whose submitter was authenticated.
        return
    authenticator: Authenticator = scope["app"].state.gateway.authenticator
    if not authenticator.ready:
        await authenticator.wait()
    principal = authenticator.principal(scope["headers"], writes=scope["method"] not in READS, any_host=any_host)
    scope[REQUEST_CONTEXT] = RequestContext(principal=principal)
    if principal.limits is not None:
        principal.limits.admit()
    principal.need(*any_of)
