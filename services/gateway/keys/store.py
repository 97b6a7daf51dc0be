"""API keys as records in the bucket `keys`. Of a key's secret only the hash is stored."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from shared.contracts.keys import ID, ApiKey
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import snapshot
from shared.nats.subjects import KEYS
from shared.stores.watch import watch_records

__all__ = ["Keys", "watch_keys"]

log = logging.getLogger(__name__)

TRIES: Final = 50


class Keys:
    """The keys of all tenants."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def create(self, key: ApiKey) -> None:
        await (await self._open()).create(key.id, key.model_dump_json().encode())

    async def get(self, key: str) -> ApiKey:
        """Raises Problem NOT_FOUND."""
        return (await self._entry(key))[0]

    async def list(self) -> list[ApiKey]:
        """All keys, revoked ones too, the newest first. One that cannot be read is left out."""
        read = [_read(key, value, None) async for key, value in snapshot(await self._open(), ">")]
        found = [key for key in read if key is not None]
        return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)

    async def change(self, key: str, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        """Change a key, also while others do. Raises Problem NOT_FOUND, and what `change` raises."""
        for _ in range(TRIES):
            known, revision = await self._entry(key)
            new = change(known)
            if new == known:
                return known
            try:
                await (await self._open()).update(key, new.model_dump_json().encode(), last=revision)
            except KeyWrongLastSequenceError:
                continue
            return new
        raise Problem(ProblemType.CONFLICT, f"The key '{key}' is being changed by other requests. Try again.")

    async def revoke(self, key: str, by: str) -> ApiKey:
        """End a key at once; one that was revoked before stays as it is. Raises Problem NOT_FOUND."""
        ended = {"revoked_at": time.time(), "revoked_by": by, "secrets": ()}
        return await self.change(key, lambda known: known if known.revoked_at else known.model_copy(update=ended))

    async def _entry(self, key: str) -> tuple[ApiKey, int]:
        missing = Problem(ProblemType.NOT_FOUND, f"There is no key '{key[:80]}'.")
        if not ID.fullmatch(key):
            raise missing
        try:
            entry = await (await self._open()).get(key)
        except KeyNotFoundError:
            raise missing from None
        return ApiKey.model_validate_json(entry.value or b""), entry.revision or 0

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(KEYS)
        return self._bucket


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
