"""Signing in by OpenID: pages that a browser visits, so their failures are codes that the console puts in words."""

import hmac
import logging
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.gateway.auth.people import NoGrantError, People
from services.gateway.auth.sessions import Session, Sessions, SessionTooLargeError, is_https
from services.gateway.sessions.openid_provider import OpenIdError, OpenIdProvider, Transaction
from services.gateway.settings import GatewaySettings

__all__ = ["BEGIN", "openid_routes"]

log = logging.getLogger(__name__)

BEGIN: Final = "/sign-in/openid"
CALLBACK: Final = "/sign-in/openid/callback"

SIGN_IN_SECONDS: Final = 600
"""Seconds that a person may spend at the provider."""

LONGEST_PATH: Final = 1000
"""Characters of a path to return to: it travels in a cookie, and browsers drop those of more than 4,096."""


def openid_routes(settings: GatewaySettings, sessions: Sessions) -> list[BaseRoute]:
    """Where a sign-in begins, and where the provider sends the browser back to."""
    provider, people = OpenIdProvider(settings), People(settings)

    async def begin(request: Request) -> Response:
        scheme = "https" if is_https(request) else "http"
        origin = settings.public_url.rstrip("/") or f"{scheme}://{request.url.netloc}"
        try:
            url, transaction = await provider.begin(origin + CALLBACK, _own_path(request.query_params.get("to", "/")))
        except OpenIdError as error:
            log.warning("a sign-in by OpenID cannot begin: %s", error)
            return _failed("provider")
        response = _redirect(url)
        sessions.keep_sign_in(request, response, transaction.model_dump_json(), SIGN_IN_SECONDS)
        return response

    async def end(request: Request) -> Response:
        kept = sessions.sign_in(request, SIGN_IN_SECONDS)
        response = await _ended(request, kept)
        sessions.keep_sign_in(request, response, "", 0)
        return response

    async def _ended(request: Request, kept: str | None) -> Response:
        try:
            transaction = Transaction.model_validate_json(kept or "")
        except ValidationError:
            return _failed("expired")
        given = request.query_params
        if not hmac.compare_digest(given.get("state", "").encode(), transaction.state.encode()):
            return _failed("expired")
        if "code" not in given:
            log.info("the OpenID provider refuses a sign-in: %s", given.get("error", "")[:100])
            return _failed("refused")
        try:
            person = people.person(await provider.claims(given["code"], transaction))
            response = _redirect(transaction.to)
            sessions.begin(request, response, Session(person=person))
        except OpenIdError as error:
            log.warning("a sign-in by OpenID fails: %s", error)
            return _failed("provider")
        except NoGrantError:
            log.info("somebody signs in by OpenID who is in no group that may")
            return _failed("no-grant")
        except SessionTooLargeError:
            log.warning("somebody who signs in by OpenID is in too many groups for a cookie")
            return _failed("too-many-groups")
        log.info("%s signs in by OpenID", person.name)
        return response

    return [
        Route(BEGIN, begin, methods=["GET"], include_in_schema=False),
        Route(CALLBACK, end, methods=["GET"], include_in_schema=False),
    ]


def _failed(code: str) -> Response:
    return _redirect(f"/sign-in?{urlencode({'failed': code})}")


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _own_path(path: str) -> str:
    """The path, or the first page where it could lead to another site, or is too long to be kept."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own and len(quote(path)) <= LONGEST_PATH else "/"
