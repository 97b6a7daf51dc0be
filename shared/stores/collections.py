"""Collections as records in a key-value bucket. A collection's record names the table that holds its index."""

import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from shared.contracts.collections import Collection
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import snapshot
from shared.nats.subjects import COLLECTIONS

__all__ = ["Collections"]

COLLECTION_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


class Collections:
    """The collections of all tenants."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def create(
        self, tenant: str, name: str, *, description: str = "", pipeline: str | None = None
    ) -> tuple[Collection, bool]:
        """Returns the collection and whether it is new. Raises Problem INVALID_NAME, or CONFLICT when it exists
        with other settings."""
        if not COLLECTION_NAME.fullmatch(name):
            raise Problem(
                ProblemType.INVALID_NAME,
                f"The collection name {name[:80]!r} must have 1 to 48 of a-z, 0-9, '-' and '_', "
                "and start with a letter or digit.",
            )
        record = Collection.model_validate(
            {
                "name": name,
                "tenant": tenant,
                "table": f"{name}-{secrets.token_hex(8)}",
                "description": description,
                "pipeline": pipeline,
                "created_at": time.time(),
            }
        )
        bucket = await self._open()
        try:
            await bucket.create(f"{tenant}.{name}", record.model_dump_json().encode())
        except KeyWrongLastSequenceError:
            existing = await self.get(tenant, name)
            if (existing.description, existing.pipeline) != (description, pipeline):
                raise Problem(
                    ProblemType.CONFLICT, f"The collection '{name}' exists already with other settings."
                ) from None
            return existing, False
        return record, True

    async def get(self, tenant: str, name: str) -> Collection:
        """Raises Problem COLLECTION_NOT_FOUND."""
        record, _ = await self._entry(tenant, name)
        return record

    async def update(self, known: Collection, change: Callable[[Collection], Collection]) -> Collection:
        """Change a collection's record, whoever else does at the same time. Returns it as it is then.

        `change` may be called several times, and may raise what it likes. Raises Problem COLLECTION_NOT_FOUND where
        the collection is not there any more, be there another one of its name.
        """
        bucket = await self._open()
        while True:
            record, revision = await self._entry(known.tenant, known.name)
            if record.id != known.id:
                raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{known.name}' was deleted.")
            new = change(record)
            if new == record:
                return record
            try:
                await bucket.update(f"{known.tenant}.{known.name}", new.model_dump_json().encode(), last=revision)
            except KeyWrongLastSequenceError:
                continue
            return new

    async def list(self, tenant: str) -> list[Collection]:
        """All collections by name."""
        bucket = await self._open()
        found = [Collection.model_validate_json(value) async for _, value in snapshot(bucket, f"{tenant}.>")]
        return sorted(found, key=lambda collection: collection.name)

    async def delete(self, tenant: str, name: str) -> Collection:
        """Forget a collection; its table is left to a `drop` job. Raises Problem COLLECTION_NOT_FOUND."""
        record = await self.get(tenant, name)
        await (await self._open()).delete(f"{tenant}.{name}")
        return record

    async def _entry(self, tenant: str, name: str) -> tuple[Collection, int]:
        missing = Problem(
            ProblemType.COLLECTION_NOT_FOUND,
            f"There is no collection '{name[:80]}'. Create it with POST /v1/collections, or by ingesting into it.",
        )
        if not COLLECTION_NAME.fullmatch(name):
            raise missing
        bucket = await self._open()
        try:
            entry = await bucket.get(f"{tenant}.{name}")
        except KeyNotFoundError:
            raise missing from None
        return Collection.model_validate_json(entry.value or b""), entry.revision or 0

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(COLLECTIONS)
        return self._bucket
