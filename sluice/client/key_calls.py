"""The operations of the HTTP API on API keys, for admins. See `calls`."""

from collections.abc import Sequence
from typing import Any

from sluice.api.keys import ApiKey, IssuedKey
from sluice.client.call import Call
from sluice.client.read import get, listing, model, segment

__all__ = ["create_key", "key", "keys", "revoke_key", "rotate_key"]


def create_key(
    name: str,
    actions: Sequence[str],
    *,
    tenant: str = "default",
    collections: Sequence[str] = ("*",),
    principals: Sequence[str] = (),
    expires_in: float | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> Call[IssuedKey]:
    """Make a key that allows `actions` (query, read, write, jobs, system, metrics, admin) on a tenant's collections.

    Names of collections may hold `*` and `?`; `expires_in` is in seconds. `principals` are who it looks at documents
    as, such as `group:hr`; `*` alone sees every document.
    """
    body: dict[str, Any] = {
        "name": name,
        "tenant": tenant,
        "actions": list(actions),
        "collections": list(collections),
        "expires_in": expires_in,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
    }
    if principals:
        body["principals"] = list(principals)
    return Call(method="POST", path="/v1/keys", body=body, parse=model(IssuedKey))


def keys() -> Call[list[ApiKey]]:
    """All keys, revoked and expired ones too, the newest first."""
    return get("/v1/keys", parse=listing(ApiKey, "keys"))


def key(key_id: str) -> Call[ApiKey]:
    """One key."""
    return get(_path(key_id), parse=model(ApiKey))


def rotate_key(key_id: str, *, grace_seconds: float = 3600.0) -> Call[IssuedKey]:
    """Give a key a new secret; the one from before goes on for a while."""
    body = {"grace_seconds": grace_seconds}
    return Call(method="POST", path=f"{_path(key_id)}/rotate", body=body, parse=model(IssuedKey))


def revoke_key(key_id: str) -> Call[ApiKey]:
    """End a key for good."""
    return Call(method="DELETE", path=_path(key_id), parse=model(ApiKey), safe=True)


def _path(key_id: str) -> str:
    return f"/v1/keys/{segment(key_id)}"
