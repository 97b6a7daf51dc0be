"""How people may sign in to the console, for its page, which asks before anybody has."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.settings import GatewaySettings

__all__ = ["options_route"]


def options_route(settings: GatewaySettings) -> Route:
    """Says the name of the OpenID provider, where there is one."""

    async def show(_: Request) -> Response:
        name = settings.openid_name if settings.openid_issuer else None
        return JSONResponse({"openid": name}, headers={"Cache-Control": "no-store"})

    return Route("/sign-in/options", show, methods=["GET"], include_in_schema=False)
