"""The API keys that this gateway knows, and the principal that a request's headers stand for: no I/O."""

import asyncio
import hmac
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from services.gateway.auth.exposure import is_local_host, is_same_origin, name_of
from services.gateway.auth.identity import HEADER as IDENTITY
from services.gateway.auth.identity import Identities
from services.gateway.auth.limits import Limits
from services.gateway.auth.people import NoGrantError, People, Person
from services.gateway.auth.principal import ANONYMOUS, Principal
from services.gateway.auth.sessions import Sessions, refuse_forged
from services.gateway.settings import GatewaySettings
from shared.contracts.keys import Action, ApiKey, KeyState, hashed, key_id
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Headers", "Authenticator", "api_key_of"]

log = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""

PATIENCE: Final = 10.0
"""Seconds that a request waits for the keys while the gateway starts."""

MOST_HOSTS: Final = 100
"""Host headers that are remembered as harmless."""

BEARER: Final = b"bearer "

ADMIN: Final = Principal(tenant=ANONYMOUS.tenant, key="admin", name="admin")
"""Whoever holds the key of the settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownKey:
    key: ApiKey
    principal: Principal


class Authenticator:
    """Requires keys where the settings have an admin key, or any key was ever made; not where anonymous is allowed."""

    def __init__(self, settings: GatewaySettings) -> None:
        admin = settings.admin_secret
        self._admin = hashed(admin) if admin is not None else None
        self._anonymous = settings.allow_anonymous
        self._known: dict[str, _KnownKey] = {}
        self._hosts = settings.host_names
        self._origins = settings.origins
        self._identities = Identities(settings) if settings.verifies_identities else None
        self._people = People(settings)
        self._known_hosts: set[bytes] = set()
        self.sessions = Sessions(settings)
        self._loaded = asyncio.Event()

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return self._admin is not None or (bool(self._known) and not self._anonymous)

    def update(self, keys: Mapping[str, ApiKey]) -> None:
        """Replace all keys, which are given by id. The counts against their limits are kept."""
        before = self.required
        self._known = {key.id: self._known_key(key) for key in keys.values()}
        self._loaded.set()
        if self.required and not before:
            log.info("there are API keys on the broker, so every request needs one")

    def note(self, key: ApiKey) -> None:
        """Know a key as this gateway has just changed it: whoever made the change uses it at once."""
        self._known[key.id] = self._known_key(key)

    @property
    def ready(self) -> bool:
        """Whether the keys have been read from the broker."""
        return self._loaded.is_set()

    async def wait(self) -> None:
        """Wait a moment until the keys are known. Raises Problem BROKER_UNAVAILABLE."""
        try:
            await asyncio.wait_for(self._loaded.wait(), PATIENCE)
        except TimeoutError:
            detail = "The gateway has not read the API keys from the message broker yet. Try again in a moment."
            raise Problem(ProblemType.BROKER_UNAVAILABLE, detail, headers={"Retry-After": "1"}) from None

    def principal(self, headers: Headers, *, writes: bool = False, any_host: bool = False) -> Principal:
        """Who calls, and for whom where the request says so. Raises Problem UNAUTHENTICATED, FORBIDDEN."""
        caller = self._caller(headers, writes=writes, any_host=any_host)
        given = [value for name, value in headers if name == IDENTITY]
        if not given:
            return caller
        if self._identities is None:
            raise _refused("This gateway verifies no identities: set SLUICE_IDENTITY_SECRET or leave the header out.")
        if len(given) > 1:
            raise _refused("The request has more than one identity.")
        return replace(caller, identity=self._identities.principals(given[0].decode("latin-1"), caller.tenant))

    def _caller(self, headers: Headers, *, writes: bool, any_host: bool) -> Principal:
        """Whose key the request has. Raises Problem UNAUTHENTICATED.

        Where no key is required, a page that a browser shows may be what calls. So it raises Problem FORBIDDEN for a
        host that the gateway is not known as, but for `any_host`, and for a request that `writes` from another origin.
        """
        if not self.required:
            if not any_host:
                self._refuse_foreign_host(headers)
            if writes:
                self._refuse_foreign_origin(headers)
            return ANONYMOUS
        key = api_key_of(headers)
        if key is None and (session := self.sessions.read(headers)) is not None:
            if writes:
                refuse_forged(headers)
            if session.person is not None:
                return self._person(session.person)
            key = session.key
        if key is None:
            raise _refused("Send an API key as 'Authorization: Bearer sk-sluice-...' or as 'X-API-Key'.")
        known = self._known.get(key_id(key) or "")
        digest = hashed(key)
        if known is not None:
            now = time.time()
            if known.key.opened_by(digest, now) and known.key.state(now) is KeyState.ACTIVE:
                return known.principal
        elif self._admin is not None and hmac.compare_digest(self._admin, digest):
            return ADMIN
        raise _refused("This API key is not known, has expired or was revoked.")

    def _person(self, person: Person) -> Principal:
        try:
            return self._people.principal(person)
        except NoGrantError:
            raise _refused("Your account may not use this Sluice any more. Sign in again.") from None

    def _refuse_foreign_host(self, headers: Headers) -> None:
        for name, value in headers:
            if name == b"host" and value not in self._known_hosts:
                host = value.decode("latin-1")
                if not (is_local_host(host) or "*" in self._hosts or name_of(host) in self._hosts):
                    raise Problem(
                        ProblemType.FORBIDDEN,
                        f"A gateway without API keys does not answer as '{host[:80]}': any web page could send such "
                        "requests. Use its address, or set SLUICE_ADMIN_KEY, or name the host in SLUICE_HOSTS.",
                    )
                if len(self._known_hosts) < MOST_HOSTS:
                    self._known_hosts.add(value)

    def _refuse_foreign_origin(self, headers: Headers) -> None:
        found = {name: value.decode("latin-1") for name, value in headers if name in (b"origin", b"host")}
        origin = found.get(b"origin")
        if origin is None or origin in self._origins or is_same_origin(origin, found.get(b"host", "")):
            return
        raise Problem(
            ProblemType.FORBIDDEN,
            f"A page of '{origin[:80]}' may change nothing here: name its origin in SLUICE_CORS_ORIGINS to allow it.",
        )

    def _known_key(self, key: ApiKey) -> _KnownKey:
        # Most are the same as before: one change must not cost a gateway with many keys a look at each of them.
        known = self._known.get(key.id)
        return known if known is not None and known.key is key else _KnownKey(key=key, principal=self._principal(key))

    def _principal(self, key: ApiKey) -> Principal:
        before = self._known.get(key.id)
        limits = before.principal.limits if before is not None else None
        if limits is None or not limits.equal(key.requests_per_minute, key.tokens_per_minute):
            limits = Limits(key.requests_per_minute, key.tokens_per_minute)
        return Principal(
            tenant=key.tenant,
            actions=Action.all_of(key.actions),
            collections=key.collections,
            key=key.id,
            name=key.name,
            limits=limits,
            principals=key.principals,
        )


def api_key_of(headers: Headers) -> str | None:
    """The API key of a request, None for a request without one."""
    other = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == BEARER:
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            other = value.strip().decode("latin-1")
    return other


def _refused(detail: str) -> Problem:
    return Problem(ProblemType.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="sluice"'})
