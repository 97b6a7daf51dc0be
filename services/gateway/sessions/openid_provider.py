"""The OpenID provider with which people sign in: OpenID Connect Core 1.0, the authorization code flow with PKCE.

What the provider publishes of itself (OpenID Connect Discovery 1.0) and its keys are fetched when they are first
needed, and again after a while, or when a token names a key that is not known.
"""

import hashlib
import hmac
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus

import anyio
import httpx
import jwt
from pydantic import BaseModel, ConfigDict

from services.gateway.auth.identity import LEEWAY, PUBLIC
from services.gateway.settings import GatewaySettings

__all__ = ["OpenIdError", "OpenIdProvider", "Transaction"]

PATIENCE: Final = 10.0
"""Seconds for one answer of the provider."""

FRESH: Final = 3600.0
"""Seconds for which the provider's description and keys are used."""

AGAIN: Final = 30.0
"""Seconds between two looks for a key that is not known."""

AT_ONCE: Final = 16
"""Sign-ins that may ask the provider at the same time."""


class OpenIdError(Exception):
    """The provider does not answer, or answers what it may not."""


class Transaction(BaseModel):
    """What is remembered of a sign-in while the person is at the provider, and the path to return to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    to: str


class _Description(BaseModel):
    """The members of the provider's description that are used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class OpenIdProvider:
    """One provider, as the settings name it."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._issuer = settings.openid_issuer
        self._client_id = settings.openid_client_id
        self._secret = settings.openid_secret
        self._scopes = settings.openid_scopes
        self._groups_claim = settings.openid_groups_claim
        self._description: tuple[float, _Description] | None = None
        self._keys: tuple[float, dict[str, jwt.PyJWK]] = (0.0, {})
        self._looking = anyio.Lock()
        self._limit = anyio.CapacityLimiter(AT_ONCE)

    async def begin(self, redirect_uri: str, to: str) -> tuple[str, Transaction]:
        """Where the browser is sent, and what it has to bring back. Raises OpenIdError."""
        transaction = Transaction(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=redirect_uri,
            to=to,
        )
        async with self._limit:
            description = await self._describe()
        challenge = urlsafe_b64encode(hashlib.sha256(transaction.verifier.encode()).digest()).decode().rstrip("=")
        parameters = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scopes,
            "state": transaction.state,
            "nonce": transaction.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        url = httpx.URL(description.authorization_endpoint).copy_merge_params(parameters)
        return str(url), transaction

    async def claims(self, code: str, transaction: Transaction) -> Mapping[str, Any]:
        """The verified claims about the person for whom the provider has given a code. Raises OpenIdError."""
        async with self._limit:
            description = await self._describe()
            try:
                tokens = await self._redeem(code, transaction, description)
                claims = await self._verified(str(tokens["id_token"]), transaction, description)
                if self._groups_claim not in claims and description.userinfo_endpoint:
                    authorization = f"Bearer {tokens['access_token']}"
                    more = await _ask(description.userinfo_endpoint, headers={"Authorization": authorization})
                    if more.get("sub") == claims["sub"]:
                        claims = {**more, **claims}
            except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
                raise OpenIdError(f"the provider's answer cannot be used: {error}") from error
        return claims

    async def _redeem(self, code: str, transaction: Transaction, description: _Description) -> dict[str, Any]:
        """The tokens for a code (RFC 6749, section 4.1.3; the secret as in section 2.3.1)."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": transaction.redirect_uri,
            "code_verifier": transaction.verifier,
        }
        headers = {}
        if self._secret is None:
            form["client_id"] = self._client_id
        elif "client_secret_basic" in description.token_endpoint_auth_methods_supported:
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self._client_id, "client_secret": self._secret}
        return await _ask(description.token_endpoint, form, headers=headers)

    async def _describe(self) -> _Description:
        async with self._looking:
            now = time.monotonic()
            if self._description is None or now - self._description[0] > FRESH:
                url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
                try:
                    found = _Description.model_validate(await _ask(url))
                except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                    raise OpenIdError(f"{url} cannot be read: {error}") from error
                if found.issuer.rstrip("/") != self._issuer.rstrip("/"):
                    raise OpenIdError(f"{url} is of another issuer: {found.issuer}")
                self._description = now, found
            return self._description[1]

    async def _verified(self, token: str, transaction: Transaction, description: _Description) -> dict[str, Any]:
        """The claims of an ID token (OpenID Connect Core 1.0, section 3.1.3.7). Raises PyJWTError, ValueError."""
        head = jwt.get_unverified_header(token)
        key = await self._key(head, description)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=PUBLIC,
            audience=self._client_id,
            issuer=description.issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "sub"]},
        )
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), transaction.nonce.encode()):
            raise ValueError("the token is of another sign-in")
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self._client_id:
            raise ValueError("the token is for another client")
        return claims

    async def _key(self, head: Mapping[str, Any], description: _Description) -> jwt.PyJWK:
        name = head.get("kid")
        async with self._looking:
            read_at, keys = self._keys
            found = _chosen(keys, name)
            age = time.monotonic() - read_at
            if not keys or age > FRESH or (found is None and age > AGAIN):
                known = jwt.PyJWKSet.from_dict(await _ask(description.jwks_uri))
                keys = {str(key.key_id): key for key in known.keys}
                self._keys = time.monotonic(), keys
                found = _chosen(keys, name)
        if found is None:
            raise ValueError("the provider publishes no key with the id that its token names")
        return found


def _chosen(keys: Mapping[str, jwt.PyJWK], name: object) -> jwt.PyJWK | None:
    """The key that a token names; one that names none fits where there is one key alone."""
    if name is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(str(name))


async def _ask(
    url: str, form: Mapping[str, str] | None = None, *, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object at an address, or the one that answers a form. Raises httpx.HTTPError, ValueError."""
    method = "GET" if form is None else "POST"
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        response = await client.request(method, url, data=form, headers=headers)
    response.raise_for_status()
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004  (what came is wrong, not a type of ours)
    return found
