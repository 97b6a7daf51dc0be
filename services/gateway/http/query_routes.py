"""The short way to the endpoints of the query path.

FastAPI and Starlette put a dozen layers around every endpoint, for parameters, dependencies, body limits and files.
An endpoint that takes the request and returns the response needs of these only that errors become responses.
"""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from services.gateway.auth.dependencies import AuthenticatedRoute
from services.gateway.http.problems import response_to

__all__ = ["QueryRoutes"]


class QueryRoutes:
    """An ASGI app that calls the plain endpoints of the routers itself, and leaves the rest to the app.

    Paths with parameters are left to the app too.
    """

    def __init__(self, app: FastAPI, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._doors = {
            (method, route.path): (route, route.get_route_handler())
            for router in routers
            for route in router.routes
            if isinstance(route, AuthenticatedRoute) and route.plain and not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._doors.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        route, handle = found
        scope["app"], scope["route"] = self._app, route
        request = Request(scope, receive, send)
        started = False

        async def begin(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            response = await handle(request)
            await response(scope, receive, begin)
        except Exception as error:
            if started:
                raise
            response = await response_to(request, error)
            await response(scope, receive, begin)
