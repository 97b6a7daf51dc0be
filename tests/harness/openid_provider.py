"""A small OpenID provider that speaks real HTTP, checks PKCE, and gives tokens that nobody may take."""

import hashlib
import json
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.harness.asgi_server import serve

__all__ = ["CLIENT", "SECRET", "ProviderServer"]

CLIENT: Final = "sluice"
SECRET: Final = "the-secret-of-the-client"

KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class ProviderServer:
    """`claims` are added to each ID token, or taken from it where they are None. `key`, `kid` and `algorithm` sign it.

    `described` changes what the provider says of itself.
    """

    claims: dict[str, Any] = field(default_factory=dict)
    user_info: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    key: Any = KEY
    kid: str | None = "k1"
    algorithm: str = "RS256"
    looks: int = 0
    url: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def authorize(self, url: str, code: str = "c1") -> str:
        """What the person does at the provider: the code, once the address has all that it needs."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        self.codes[code] = asked
        return code

    @asynccontextmanager
    async def run(self) -> AsyncIterator["ProviderServer"]:
        app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._describe),
                Route("/keys", self._keys),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._user_info),
            ]
        )
        async with serve(app) as url:
            self.url = url
            yield self

    async def _describe(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "userinfo_endpoint": f"{self.url}/userinfo",
                **self.described,
            }
        )

    async def _keys(self, _: Request) -> Response:
        self.looks += 1
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
        return JSONResponse({"keys": [{**key, "kid": "k1", "alg": "RS256", "use": "sig"}]})

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        shown = b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
        asked = self.codes.pop(str(form.get("code")), None)
        verifier = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if (
            shown != f"{CLIENT}:{SECRET}"
            or asked is None
            or asked["redirect_uri"] != form.get("redirect_uri")
            or asked["code_challenge"] != urlsafe_b64encode(verifier).decode().rstrip("=")
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        now = time.time()
        claims = {"iss": self.url, "aud": CLIENT, "sub": "alice", "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        claims = {name: value for name, value in {**claims, **self.claims}.items() if value is not None}
        headers = {} if self.kid is None else {"kid": self.kid}
        token = jwt.encode(claims, self.key, self.algorithm, headers=headers)
        return JSONResponse({"access_token": "a1", "token_type": "Bearer", "expires_in": 60, "id_token": token})

    async def _user_info(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer a1"
        return JSONResponse({"sub": "alice", **self.user_info})
