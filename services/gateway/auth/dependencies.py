"""The door of every endpoint: who asks is found out, and whether he may, before anything of the request is read."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.context import REQUEST_CONTEXT, RequestContext, Terms
from shared.contracts.keys import Action

__all__ = ["SECURITY", "AuthenticatedRoute", "AuthenticatedPage", "authenticated_router", "requires"]

NEEDED: Final = "__sluice_actions__"

SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the gateway asks for keys."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
"""How a key is brought, for the OpenAPI document."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def requires(*any_of: Action) -> Callable[[Endpoint], Endpoint]:
    """Says of an endpoint that it takes a key with one of these actions. Every endpoint says so."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, NEEDED, any_of)
        return endpoint

    return mark


def authenticated_router(tag: str) -> APIRouter:
    """A router whose endpoints are guarded."""
    return APIRouter(tags=[tag], route_class=AuthenticatedRoute)


class AuthenticatedRoute(APIRoute):
    """A route that lets nobody in without asking. Raises TypeError for an endpoint that does not say what it needs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        wanted = [{scheme: [action.value]} for action in self.needed for scheme in SECURITY]
        self.openapi_extra = {**(self.openapi_extra or {}), "security": wanted}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, any_of = self.endpoint if self.plain else super().get_route_handler(), self.needed

        async def admitted(request: Request) -> Response:
            await _admit(request.scope, any_of)
            return await handle(request)

        return admitted

    @property
    def plain(self) -> bool:
        """Whether the endpoint takes the request and returns the response: then it needs no help of FastAPI's."""
        signature = inspect.signature(self.endpoint)
        takes = [parameter.annotation for parameter in signature.parameters.values()]
        return (
            inspect.iscoroutinefunction(self.endpoint)
            and takes == [Request]
            and signature.return_annotation is Response
        )

    @property
    def needed(self) -> tuple[Action, ...]:
        try:
            any_of: tuple[Action, ...] = getattr(self.endpoint, NEEDED)
        except AttributeError:
            raise TypeError(f"{self.path}: say with @needs what a key must allow for this endpoint") from None
        return any_of


class AuthenticatedPage:
    """A page that is none of the API's, behind the same door."""

    def __init__(self, page: ASGIApp, *any_of: Action) -> None:
        self._page = page
        self._any_of = any_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _admit(scope, self._any_of)
        await self._page(scope, receive, send)


async def _admit(scope: Scope, any_of: tuple[Action, ...]) -> None:
    """Put the desk at which a request is served into its scope. Raises Problem."""
    if REQUEST_CONTEXT in scope:
        # It came over the bus, on behalf of a job whose submitter was asked.
        return
    context: RequestContext = scope["app"].state.context
    authenticator = context.authenticator
    if not authenticator.told:
        await authenticator.wait()
    principal = authenticator.principal(scope["headers"])
    scope[REQUEST_CONTEXT] = context.under(Terms(principal=principal))
    if principal.limits is not None:
        principal.limits.admit()
    principal.need(*any_of)
