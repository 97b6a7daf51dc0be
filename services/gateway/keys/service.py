"""API keys as the HTTP API takes and shows them: the secret is shown once, when it is made."""

import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.http.problems import invalid_member
from shared.contracts.envelope import Tenant
from shared.contracts.keys import EVERY_COLLECTION, Action, ApiKey, CollectionPattern, KeyState, Secret, hashed, new_key
from shared.contracts.principals import MOST_PRINCIPALS, PRINCIPAL
from sluice.api import keys as api

__all__ = ["KeyList", "NewKey", "Rotation", "check_rotation", "describe_key", "issue_key"]

KeyPrincipal = Annotated[str, Field(pattern=rf"^(?:\*|{PRINCIPAL})$")]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NewKey(_Request):
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[ -~]+$")] = Field(
        description="Whose it is or what for; shown in the audit log, and with jobs as who submitted them."
    )
    tenant: Tenant = Field("default", description="Whose collections, jobs and files it is for.")
    actions: Annotated[frozenset[Action], Field(strict=False, min_length=1)] = Field(
        description="What it allows; `write`, `jobs` and `system` bring `read` with them, `admin` everything."
    )
    collections: Annotated[tuple[CollectionPattern, ...], Field(strict=False, min_length=1, max_length=100)] = Field(
        EVERY_COLLECTION, description="Names of the tenant's collections that it is for; `*` and `?` are wildcards."
    )
    principals: Annotated[tuple[KeyPrincipal, ...], Field(strict=False, max_length=MOST_PRINCIPALS)] = Field(
        (),
        description="Who it looks at documents as, such as `group:hr`; `*` sees every document. Without any, a key "
        "with `write` or `admin` sees every document, and others see those without a list of principals.",
    )
    expires_in: float | None = Field(None, gt=0, le=10 * 366 * 86400, description="Seconds from now; null: never.")
    requests_per_minute: PerMinute | None = Field(None, description="Requests to each gateway; null: no limit.")
    tokens_per_minute: PerMinute | None = Field(
        None, description="Tokens of prompts, answers and embeddings at each gateway; null: no limit."
    )


class Rotation(_Request):
    grace_seconds: float = Field(
        3600.0, ge=0, le=90 * 86400, description="Seconds for which the secret from before goes on."
    )


class KeyList(BaseModel):
    model_config = ConfigDict(frozen=True)

    keys: list[api.ApiKey]


def describe_key(key: ApiKey) -> api.ApiKey:
    """The key as callers see it now."""
    now = time.time()
    shown = key.model_dump(include=set(api.ApiKey.model_fields) - {"state", "actions", "secrets"})
    secrets = sum(secret.until is None or now < secret.until for secret in key.secrets)
    return api.ApiKey(state=key.state(now), actions=tuple(sorted(key.actions)), secrets=secrets, **shown)


def issue_key(body: NewKey, by: str) -> tuple[ApiKey, str]:
    """A new key, and its written form."""
    key, written = new_key()
    now = time.time()
    expires = None if body.expires_in is None else now + body.expires_in
    members = body.model_dump(exclude={"expires_in"})
    secret = Secret(sha256=hashed(written))
    return ApiKey(id=key, created_at=now, created_by=by, expires_at=expires, secrets=(secret,), **members), written


def check_rotation(key: ApiKey) -> None:
    """Raises Problem INVALID_REQUEST for a key that is not active."""
    state = key.state(time.time())
    if state is not KeyState.ACTIVE:
        raise invalid_member("key", f"it is {state}; make another one")
