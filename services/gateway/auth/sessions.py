"""Sessions of the web console: an API key in a cookie, sealed so that only a gateway reads it.

A browser keeps no key that scripts can read. The cookie is HttpOnly and SameSite=Strict, and holds the key encrypted
and authenticated (Fernet: AES-128-CBC, HMAC-SHA256, and the time of its making). All gateways with the same admin key
read each other's cookies. A revoked key ends its sessions.
"""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.auth.exposure import is_same_origin
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import Problem, ProblemType

__all__ = ["CONSOLE_HEADER", "SESSION_SECONDS", "Sessions", "refuse_forged"]

SESSION_SECONDS: Final = 12 * 3600
"""Seconds after which a person signs in again."""

CONSOLE_HEADER: Final = b"x-sluice-console"
"""What the console sends with each request. Pages of other origins cannot without permission, which none gets."""

PURPOSE: Final = b"sluice console session"


class Sessions:
    """Seals keys into cookies, and opens them. Without an admin key only this process reads its cookies."""

    def __init__(self, settings: GatewaySettings) -> None:
        secret = settings.admin_secret
        material = secrets.token_bytes(32) if secret is None else secret.encode()
        derived = HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(material)
        self._box = Fernet(urlsafe_b64encode(derived))
        # Cookies do not know ports: two installations on one machine must not end each other's sessions.
        self.cookie = f"sluice_session_{hashlib.sha256(PURPOSE + derived).hexdigest()[:8]}"

    def key_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The API key in the session of a request, None where it has none that is valid."""
        sealed = self._sealed(headers)
        if sealed is None:
            return None
        try:
            return self._box.decrypt(sealed, ttl=SESSION_SECONDS).decode()
        except (InvalidToken, UnicodeDecodeError):
            return None

    def begin(self, request: Request, response: Response, key: str) -> None:
        """Give the browser a session with this key."""
        sealed = self._box.encrypt(key.encode()).decode()
        self._set(request, response, sealed, SESSION_SECONDS)

    def end(self, request: Request, response: Response) -> None:
        """Take the browser's session away."""
        self._set(request, response, "", 0)

    def _set(self, request: Request, response: Response, value: str, seconds: int) -> None:
        secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
        response.set_cookie(
            self.cookie, value, max_age=seconds, path="/", httponly=True, samesite="strict", secure=secure
        )

    def _sealed(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        for name, value in headers:
            if name == b"cookie" and self.cookie.encode() in value:
                try:
                    morsel = SimpleCookie(value.decode("latin-1")).get(self.cookie)
                except CookieError:
                    continue
                if morsel is not None:
                    return morsel.value
        return None


def refuse_forged(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises Problem FORBIDDEN for a write with a session that the console itself has not sent."""
    found = {name: value.decode("latin-1") for name, value in headers}
    origin = found.get(b"origin")
    if CONSOLE_HEADER not in found:
        reason = "A request with the console's session needs the header X-Sluice-Console."
    elif origin is not None and not is_same_origin(origin, found.get(b"host", "")):
        reason = f"A page of '{origin[:80]}' may not use the console's session."
    elif found.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        reason = "A page of another site may not use the console's session."
    else:
        return
    raise Problem(ProblemType.FORBIDDEN, reason)
