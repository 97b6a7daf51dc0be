"""Calls the endpoints of the query path directly.

FastAPI and Starlette put a dozen layers around every endpoint, for parameters, dependencies, body limits and files.
A `DirectRoute` needs only one of them: errors become responses.
"""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from services.gateway.auth.dependencies import DirectRoute
from services.gateway.http.problems import response_to

__all__ = ["DirectRoutes"]


class DirectRoutes:
    """An ASGI app that serves the direct routes of these routers, and passes all other requests to `app`.

    Raises TypeError for a route that is not a `DirectRoute` or has parameters in its path.
    """

    def __init__(self, app: FastAPI, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._routes = {}
        for route in (route for router in routers for route in router.routes):
            if not isinstance(route, DirectRoute) or route.param_convertors:
                raise TypeError(f"{route} cannot be called directly")
            for method in route.methods or ():
                self._routes[method, route.path] = route, route.get_route_handler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None or scope.get("root_path"):
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
