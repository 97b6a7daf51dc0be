"""API keys as records in the bucket `keys`. Of a key's secret only the hash is stored."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.js import JetStreamContext
from pydantic import ValidationError

from shared.contracts.keys import ID, ApiKey
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import Repository
from shared.nats.subjects import KEYS
from shared.nats.watch import watch_records

__all__ = ["Keys", "watch_keys"]

log = logging.getLogger(__name__)


class Keys:
    """The keys of all tenants."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, KEYS, ApiKey.model_validate_json, noun="key")

    async def create(self, key: ApiKey) -> None:
        if await self._records.put(key.id, key, revision=0) is None:
            raise self._records.conflict(key.id)

    async def get(self, key: str) -> ApiKey:
        """Raises Problem NOT_FOUND."""
        found = await self._records.get(key) if ID.fullmatch(key) else None
        if found is None:
            raise _missing(key)
        return found

    async def list(self) -> list[ApiKey]:
        """All keys, revoked ones too, the newest first. One that cannot be read is left out."""
        read = [_read(key, value, None) async for key, value in self._records.entries()]
        found = [key for key in read if key is not None]
        return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)

    async def change(self, key: str, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        """Change a key, also while others do. Raises Problem NOT_FOUND, and what `change` raises."""
        changed = await self._records.update(key, change) if ID.fullmatch(key) else None
        if changed is None:
            raise _missing(key)
        return changed

    async def revoke(self, key: str, by: str) -> ApiKey:
        """End a key at once; one that was revoked before stays as it is. Raises Problem NOT_FOUND."""
        ended = {"revoked_at": time.time(), "revoked_by": by, "secrets": ()}
        return await self.change(key, lambda known: known if known.revoked_at else known.model_copy(update=ended))


def _missing(key: str) -> Problem:
    return Problem(ProblemType.NOT_FOUND, f"There is no key '{key[:80]}'.")


@asynccontextmanager
async def watch_keys(
    client: Client, jetstream: JetStreamContext, changed: Callable[[Mapping[str, ApiKey]], None]
) -> AsyncIterator[None]:
    """Call `changed` with all keys by id, at the beginning and after each change."""
    async with watch_records(client, jetstream, KEYS, read=_read, changed=changed):
        yield


def _read(key: str, value: bytes, _: ApiKey | None) -> ApiKey | None:
    """None for a record that cannot be read: no request is authenticated by it."""
    try:
        return ApiKey.model_validate_json(value)
    except ValidationError:
        log.warning("the key '%s' cannot be read, so no request is authenticated by it", key)
        return None
