"""Who asks through an application: a signed token in a header, and the principals that its claims stand for.

The token is a JSON Web Token (RFC 7519). The application signs it with a secret that it shares with the gateway
(HS256), or it is the ID token of an OpenID provider, which the provider's public keys verify (a JSON Web Key Set, RFC
7517, in a file). It has to expire, and has to be for this audience and from this issuer where the settings name them.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt

from services.gateway.settings import GatewaySettings
from shared.contracts.principals import MOST_PRINCIPALS, is_principal
from shared.contracts.problems import Problem, ProblemType

__all__ = ["HEADER", "LEEWAY", "PUBLIC", "Identities", "principals_of"]

log = logging.getLogger(__name__)

HEADER: Final = b"x-sluice-identity"
"""In lower case, as ASGI has the names of headers."""

TENANT: Final = "tenant"
"""The claim that ties a token to one tenant."""

LEEWAY: Final = 10.0
"""Seconds by which clocks may differ."""

SHARED: Final[tuple[str, ...]] = ("HS256",)
PUBLIC: Final[tuple[str, ...]] = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)


class Identities:
    """Verifies tokens as the settings say. The file of keys is read again when it changes."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._secret = settings.identity_key
        self._file = settings.identity_keys_file
        self._audience = settings.identity_audience or None
        self._issuer = settings.identity_issuer or None
        self._claims = settings.identity_claims
        self._keys: tuple[tuple[float, int], Mapping[str, jwt.PyJWK]] | None = None

    def principals(self, token: str, tenant: str) -> tuple[str, ...]:
        """The principals that a token stands for, for a key of this tenant. Raises Problem UNAUTHENTICATED."""
        try:
            claims = self._verified(token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            # What the library says names a claim or an algorithm, and nothing of a key.
            raise _refused(f"The identity is not valid: {str(error)[:200]}.") from None
        if claims.get(TENANT, tenant) != tenant:
            raise _refused("The identity is one of another tenant than the API key.")
        found = principals_of(claims, self._claims)
        if len(found) > MOST_PRINCIPALS:
            raise _refused(f"The identity has {len(found):,} principals; at most {MOST_PRINCIPALS} are allowed.")
        return found

    def _verified(self, token: str) -> dict[str, Any]:
        head = jwt.get_unverified_header(token)
        key: Any
        if head.get("alg") in SHARED and self._secret is not None:
            key, algorithms = self._secret, SHARED
        elif head.get("alg") in PUBLIC and self._file is not None:
            key, algorithms = self._key_for(self._file, head), PUBLIC
        else:
            raise jwt.InvalidAlgorithmError(f"no key of this gateway verifies {str(head.get('alg'))[:20]!r}")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=algorithms,
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY,
            options={"require": ["exp"], "verify_aud": self._audience is not None},
        )
        return claims

    def _key_for(self, file: Path, head: Mapping[str, Any]) -> jwt.PyJWK:
        """The key with the id that the token names; a token without one fits where there is one key alone."""
        keys = self._read(file)
        name = head.get("kid")
        if name is None and len(keys) == 1:
            return next(iter(keys.values()))
        if (found := keys.get(str(name))) is None:
            raise jwt.InvalidKeyError("no key has the id that it names")
        return found

    def _read(self, file: Path) -> Mapping[str, jwt.PyJWK]:
        try:
            status = file.stat()
            stamp = (status.st_mtime, status.st_size)
            if self._keys is None or self._keys[0] != stamp:
                known = jwt.PyJWKSet.from_json(file.read_text())
                self._keys = stamp, {str(key.key_id): key for key in known.keys}
        except (OSError, ValueError, jwt.PyJWTError) as error:
            log.warning("the file of the identity provider's keys cannot be read: %s", error)
            if self._keys is None:
                raise jwt.InvalidKeyError("the provider's keys cannot be read") from None
        return self._keys[1]


def principals_of(claims: Mapping[str, Any], kinds: Mapping[str, str]) -> tuple[str, ...]:
    """The principals that claims stand for, by the kinds of principals that the claims are."""
    return tuple(sorted({principal for name, kind in kinds.items() for principal in _named(claims, name, kind)}))


def _named(claims: Mapping[str, Any], name: str, kind: str) -> Iterable[str]:
    """The principals of one claim, a text or a list of texts. Without a kind, its texts are principals already."""
    value = claims.get(name)
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    for text in texts:
        if isinstance(text, str) and is_principal(principal := f"{kind}:{text}" if kind else text):
            yield principal


def _refused(detail: str) -> Problem:
    return Problem(ProblemType.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="sluice"'})
