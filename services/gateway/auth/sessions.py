"""Sessions of the web console: an API key, or a person, in a cookie that only a gateway reads.

A browser keeps no key that scripts can read. The cookie is HttpOnly and SameSite=Strict, and its content is encrypted
and authenticated (Fernet: AES-128-CBC, HMAC-SHA256, and the time of its making). All gateways with the same admin key
read each other's cookies. A revoked key ends its sessions, and so does a grant that is taken from the settings.
"""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Final, Literal

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request, cookie_parser
from starlette.responses import Response

from services.gateway.auth.exposure import is_same_origin
from services.gateway.auth.people import Person
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import Problem, ProblemType

__all__ = [
    "CONSOLE_HEADER",
    "SESSION_SECONDS",
    "Session",
    "SessionTooLargeError",
    "Sessions",
    "is_https",
    "refuse_forged",
]

SESSION_SECONDS: Final = 12 * 3600
"""Seconds after which a person signs in again."""

LARGEST_COOKIE: Final = 3800
"""Characters of a cookie's value. Browsers drop one of more than 4,096 with its name and attributes."""

CONSOLE_HEADER: Final = b"x-sluice-console"
"""What the console sends with each request. Pages of other origins cannot without permission, which none gets."""

PURPOSE: Final = b"sluice console session"


class Session(BaseModel):
    """Who has signed in: the holder of an API key, or a person without one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str | None = None
    person: Person | None = None


class SessionTooLargeError(Exception):
    """No cookie has room for it: a person is in too many groups."""


class Sessions:
    """Seals sessions into cookies, and opens them. Without an admin key only this process reads its cookies."""

    def __init__(self, settings: GatewaySettings) -> None:
        secret = settings.admin_secret
        material = secrets.token_bytes(32) if secret is None else secret.encode()
        derived = HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(material)
        self._box = Fernet(urlsafe_b64encode(derived))
        # Cookies do not know ports: two installations on one machine must not end each other's sessions.
        self.cookie = f"sluice_session_{hashlib.sha256(PURPOSE + derived).hexdigest()[:8]}"
        self._begun = f"sluice_sign_in_{self.cookie[-8:]}"

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Session | None:
        """The session of a request, None where it has none that is valid."""
        opened = self._open(_cookie(headers, self.cookie), SESSION_SECONDS)
        try:
            return None if opened is None else Session.model_validate_json(opened)
        except ValidationError:
            return None

    def begin(self, request: Request, response: Response, session: Session) -> None:
        """Give the browser a session. Raises SessionTooLargeError."""
        sealed = self._seal(session.model_dump_json(exclude_none=True))
        if len(sealed) > LARGEST_COOKIE:
            raise SessionTooLargeError
        self._set(request, response, self.cookie, sealed, SESSION_SECONDS)

    def end(self, request: Request, response: Response) -> None:
        """Take the browser's session away."""
        self._set(request, response, self.cookie, "", 0)

    def keep_sign_in(self, request: Request, response: Response, state: str, seconds: int) -> None:
        """Let the browser remember a sign-in that goes on when it comes back from another site; 0 seconds: forget."""
        # Lax: browsers send a strict cookie with no request that another site has caused.
        self._set(request, response, self._begun, self._seal(state) if seconds else "", seconds, same_site="lax")

    def sign_in(self, request: Request, seconds: int) -> str | None:
        """What `keep_sign_in` kept, for so many seconds at most."""
        return self._open(request.cookies.get(self._begun), seconds)

    def _seal(self, text: str) -> str:
        return self._box.encrypt(text.encode()).decode()

    def _open(self, sealed: str | None, seconds: int) -> str | None:
        try:
            return None if sealed is None else self._box.decrypt(sealed, ttl=seconds).decode()
        except (InvalidToken, UnicodeDecodeError):
            return None

    def _set(
        self,
        request: Request,
        response: Response,
        name: str,
        value: str,
        seconds: int,
        *,
        same_site: Literal["strict", "lax"] = "strict",
    ) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", httponly=True, samesite=same_site, secure=is_https(request)
        )


def is_https(request: Request) -> bool:
    """Whether the browser came over HTTPS, to the gateway or to a proxy before it."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def _cookie(headers: Iterable[tuple[bytes, bytes]], wanted: str) -> str | None:
    for name, value in headers:
        if name == b"cookie" and wanted.encode() in value:
            # Other programs on the same machine set cookies too, with values that the standard does not allow.
            found = cookie_parser(value.decode("latin-1")).get(wanted)
            if found is not None:
                return found
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
