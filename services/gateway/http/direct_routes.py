"""Calls the endpoints of the query path directly.

FastAPI and Starlette put a dozen layers around every endpoint, for parameters, dependencies, body limits and files.
A `DirectRoute` needs only one of them: errors become responses.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.gateway.auth.dependencies import DirectRoute
from services.gateway.http.problems import response_to

__all__ = ["DirectRoutes"]


class _Direct(NamedTuple):
    route: DirectRoute
    handle: Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """An ASGI app that serves the direct routes of these routers, and passes all other requests to `app`.

    Raises TypeError for a route that is not a `DirectRoute`.
    """

    def __init__(self, app: FastAPI, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._routes: dict[tuple[str, str], _Direct] = {}
        self._patterns: dict[tuple[str, str], list[_Direct]] = {}
        for route in (route for router in routers for route in router.routes):
            if not isinstance(route, DirectRoute):
                raise TypeError(f"{route} cannot be called directly")
            direct = _Direct(route, route.get_route_handler())
            for method in route.methods or ():
                if route.param_convertors:
                    self._patterns.setdefault((method, _kind(route.path)), []).append(direct)
                else:
                    self._routes[method, route.path] = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope) if scope["type"] == "http" and not scope.get("root_path") else None
        if found is None:
            await self._app(scope, receive, send)
            return
        route, handle = found
        scope["app"], scope["route"] = self._app, route
        request = Request(scope, receive, send)
        started = False

        async def send_response(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            response = await handle(request)
            await response(scope, receive, send_response)
        except Exception as error:
            if started:
                raise
            response = await response_to(request, error)
            await response(scope, receive, send_response)

    def _find(self, scope: Scope) -> _Direct | None:
        """The route of a request; parameters of its path come into the scope."""
        method, path = scope["method"], scope["path"]
        if (exact := self._routes.get((method, path))) is not None:
            return exact
        for direct in self._patterns.get((method, _kind(path)), ()):
            if (match := direct.route.path_regex.match(path)) is not None:
                convertors: dict[str, Any] = direct.route.param_convertors
                scope["path_params"] = {
                    name: convertors[name].convert(text) for name, text in match.groupdict().items()
                }
                return direct
        return None


def _kind(path: str) -> str:
    """What tells most paths apart without a pattern: the last word of a path, behind its parameters."""
    return path.rpartition("/")[2].rpartition(":")[2]
