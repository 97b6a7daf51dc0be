"""API keys: who may do what, as records in the bucket `keys`. Of a key's secret only the hash is kept.

A key is written `sk-sluice-<id>-<secret>`. The secret is 256 random bits, so one round of SHA-256 hides it well: slow
hashes are for what people make up. A key that is rotated has two secrets for a while.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Final, Self

from pydantic import Field

from shared.contracts.envelope import Tenant
from shared.contracts.wire import Wire

__all__ = [
    "EVERY_COLLECTION",
    "Action",
    "ApiKey",
    "CollectionPattern",
    "KeyState",
    "Secret",
    "hashed",
    "key_id",
    "new_key",
    "permitted",
]

PREFIX: Final = "sk-sluice-"
WRITTEN: Final = re.compile(rf"{PREFIX}([a-z0-9]{{12}})-([0-9a-f]{{64}})")
ID: Final = re.compile(r"[a-z0-9]{12}")
ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"

EVERY_COLLECTION: Final = ("*",)

CollectionPattern = Annotated[str, Field(pattern=r"^[a-z0-9*?_-]{1,48}$")]
"""A collection's name, with `*` for any characters and `?` for one."""


class Action(StrEnum):
    """What a key may allow. `write`, `jobs` and `system` bring `read` with them, `admin` brings all others.

    `query`   ask questions, chat, embed, list the models
    `read`    look at collections, documents, jobs and what jobs have made
    `write`   change collections and documents
    `jobs`    submit and control jobs, schedules, batches, and their files
    `system`  submit jobs that run programs, or read the scheduler's own folders and buckets
    `metrics` read the gateway's metrics, which are of all tenants
    `admin`   run the platform: keys, routes, status, dead letters, of all tenants
    """

    QUERY = "query"
    READ = "read"
    WRITE = "write"
    JOBS = "jobs"
    SYSTEM = "system"
    METRICS = "metrics"
    ADMIN = "admin"

    @staticmethod
    def all_of(given: Iterable["Action"]) -> frozenset["Action"]:
        """The actions that these allow, with what they bring."""
        actions = set(given)
        if Action.ADMIN in actions:
            return frozenset(Action)
        if actions & {Action.WRITE, Action.JOBS, Action.SYSTEM}:
            actions.add(Action.READ)
        return frozenset(actions)


class KeyState(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Secret(Wire):
    """The hash of one secret, and the Unix time at which it ends, where another one has replaced it."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    until: float | None = None


class ApiKey(Wire):
    """A key as it is kept. Times are Unix seconds; a limit of None is none. `principals` are who it looks at documents
    as."""

    id: Annotated[str, Field(pattern=ID.pattern)]
    name: str
    tenant: Tenant
    actions: frozenset[Action]
    collections: tuple[CollectionPattern, ...] = EVERY_COLLECTION
    principals: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires_at: float | None = None
    created_at: float
    created_by: str = ""
    rotated_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str = ""
    secrets: tuple[Secret, ...]

    def state(self, now: float) -> KeyState:
        if self.revoked_at is not None:
            return KeyState.REVOKED
        expired = self.expires_at is not None and now >= self.expires_at
        return KeyState.EXPIRED if expired else KeyState.ACTIVE

    def opened_by(self, digest: str, now: float) -> bool:
        """Whether a secret with this hash is one of the key's, in a time that tells nothing about them."""
        found = False
        for secret in self.secrets:
            same = hmac.compare_digest(secret.sha256, digest)
            found |= same and (secret.until is None or now < secret.until)
        return found

    def rotated(self, digest: str, now: float, grace: float) -> Self:
        """The key with a new secret; those before go on for `grace` seconds, or less where that was said before."""
        ending = now + grace
        kept = [s.model_copy(update={"until": min(s.until or ending, ending)}) for s in self.secrets]
        kept = [secret for secret in kept if (secret.until or 0) > now]
        return self.model_copy(update={"secrets": (*kept, Secret(sha256=digest)), "rotated_at": now})


def permitted(patterns: Iterable[str], collection: str) -> bool:
    """Whether any of the patterns is for a collection of this name."""
    return any(pattern == "*" or fnmatchcase(collection, pattern) for pattern in patterns)


def hashed(text: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_key(key: str | None = None) -> tuple[str, str]:
    """The id and the written form of a new secret: of the key with this id, or of a new one."""
    key = key or "".join(secrets.choice(ALPHABET) for _ in range(12))
    return key, f"{PREFIX}{key}-{secrets.token_hex(32)}"


def key_id(written: str) -> str | None:
    """The id in a written key; None for a text that is none."""
    match = WRITTEN.fullmatch(written)
    return match[1] if match else None
