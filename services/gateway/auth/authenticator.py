"""The API keys as this gateway knows them, and from a request's headers to whoever sent it: no I/O."""

import asyncio
import hmac
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.gateway.auth.exposure import is_near
from services.gateway.auth.limits import Limits
from services.gateway.auth.principal import ANONYMOUS, Principal
from services.gateway.settings import GatewaySettings
from shared.contracts.keys import Action, ApiKey, KeyState, hashed, key_id
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Headers", "Authenticator", "presented"]

log = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""

PATIENCE: Final = 1.0
"""Seconds that a request waits for the keys to be known while the gateway starts."""

MOST_HOSTS: Final = 100
"""Host headers that are remembered as harmless."""

BEARER: Final = b"bearer "

ADMIN: Final = Principal(tenant=ANONYMOUS.tenant, key="admin", name="admin")
"""Who has the key of the settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    key: ApiKey
    principal: Principal


class Authenticator:
    """Asks for keys where the settings name an admin's, or any key was ever made; never where anonymous is allowed."""

    def __init__(self, settings: GatewaySettings) -> None:
        admin = settings.admin_secret
        self._admin = hashed(admin) if admin is not None else None
        self._anonymous = settings.allow_anonymous
        self._known: dict[str, _Known] = {}
        self._near: set[bytes] = set()
        self._told = asyncio.Event()

    @property
    def asks(self) -> bool:
        """Whether requests need a key."""
        return self._admin is not None or (bool(self._known) and not self._anonymous)

    def update(self, keys: Mapping[str, ApiKey]) -> None:
        """Take over all keys by id; what is counted against a limit goes on being counted."""
        asked = self.asks
        self._known = {key.id: self._learn(key) for key in keys.values()}
        self._told.set()
        if self.asks and not asked:
            log.info("there are API keys on the broker, so every request needs one")

    @property
    def told(self) -> bool:
        """Whether the broker has told which keys there are."""
        return self._told.is_set()

    async def wait(self) -> None:
        """Until then, for a moment. Raises Problem BROKER_UNAVAILABLE."""
        try:
            await asyncio.wait_for(self._told.wait(), PATIENCE)
        except TimeoutError:
            detail = "The message broker has not told yet which API keys there are. Try again in a moment."
            raise Problem(ProblemType.BROKER_UNAVAILABLE, detail, headers={"Retry-After": "1"}) from None

    def principal(self, headers: Headers) -> Principal:
        """Raises Problem UNAUTHENTICATED, or FORBIDDEN for a page of another site where no key is asked for."""
        if not self.asks:
            if not self._anonymous:
                self._refuse_far(headers)
            return ANONYMOUS
        written = presented(headers)
        if written is None:
            raise _refused("Send an API key as 'Authorization: Bearer sk-sluice-...' or as 'X-API-Key'.")
        known = self._known.get(key_id(written) or "")
        digest = hashed(written)
        if known is not None:
            now = time.time()
            if known.key.opened_by(digest, now) and known.key.state(now) is KeyState.ACTIVE:
                return known.principal
        elif self._admin is not None and hmac.compare_digest(self._admin, digest):
            return ADMIN
        raise _refused("This API key is not known, has expired or was revoked.")

    def _refuse_far(self, headers: Headers) -> None:
        for name, value in headers:
            if name == b"host" and value not in self._near:
                host = value.decode("latin-1")
                if not is_near(host):
                    raise Problem(
                        ProblemType.FORBIDDEN,
                        f"A gateway that asks for no keys does not answer as '{host[:80]}': any web page could ask "
                        "it so. Ask it by its address, or set SLUICE_ADMIN_KEY, or SLUICE_ALLOW_ANONYMOUS=true.",
                    )
                if len(self._near) < MOST_HOSTS:
                    self._near.add(value)

    def _learn(self, key: ApiKey) -> _Known:
        # Most are the same as before: one change must not cost a gateway with many keys a look at each of them.
        known = self._known.get(key.id)
        return known if known is not None and known.key is key else _Known(key=key, principal=self._principal(key))

    def _principal(self, key: ApiKey) -> Principal:
        before = self._known.get(key.id)
        limits = before.principal.limits if before is not None else None
        if limits is None or not limits.same(key.requests_per_minute, key.tokens_per_minute):
            limits = Limits(key.requests_per_minute, key.tokens_per_minute)
        return Principal(
            tenant=key.tenant,
            actions=Action.all_of(key.actions),
            collections=key.collections,
            key=key.id,
            name=key.name,
            limits=limits,
        )


def presented(headers: Headers) -> str | None:
    """The key that a request brings, None where it brings none."""
    other = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == BEARER:
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            other = value.strip().decode("latin-1")
    return other


def _refused(detail: str) -> Problem:
    return Problem(ProblemType.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="sluice"'})
