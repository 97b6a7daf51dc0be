"""What the HTTP API says of API keys, as typed, immutable models."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

__all__ = ["ApiKey", "IssuedKey"]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class ApiKey(_Wire):
    """A key; `state` is active, expired or revoked. `secrets` counts those that open it: two after a rotation."""

    id: str
    name: str = ""
    state: str = ""
    tenant: str = "default"
    actions: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires_at: datetime | None = None
    created_at: datetime | None = None
    created_by: str = ""
    rotated_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str = ""
    secrets: int = 0


class IssuedKey(_Wire):
    """A key with its `secret`, what clients give as `api_key`: told only now."""

    key: ApiKey
    secret: str
