"""What the HTTP API says of API keys, as typed, immutable models."""

from typing import Annotated, Final

from sluice.api.base import Schema, Sent, Timestamp, closed_set

__all__ = ["ApiKey", "IssuedKey"]

ACTIONS: Final = ("query", "read", "write", "jobs", "system", "metrics", "admin")


class ApiKey(Schema):
    """A key; `secrets` counts those that open it: two after a rotation."""

    id: str
    name: str = ""
    state: Annotated[str, closed_set("active", "expired", "revoked")] = ""
    tenant: str = "default"
    actions: tuple[Annotated[str, closed_set(*ACTIONS)], ...] = ()
    collections: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires_at: Timestamp | None = None
    created_at: Sent[Timestamp] = None
    created_by: str = ""
    rotated_at: Timestamp | None = None
    revoked_at: Timestamp | None = None
    revoked_by: str = ""
    secrets: int = 0


class IssuedKey(Schema):
    """A key with its `secret`, what clients give as `api_key`. It is shown only once."""

    key: ApiKey
    secret: str
