"""Collections as records in a key-value bucket. A collection's record names the table that holds its index."""

import re
import time
from collections.abc import Callable
from typing import Final

from nats.js import JetStreamContext

from shared.contracts.collections import Collection, table_name
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import NO_OPTIONS, RetrievalFields
from shared.nats.kv import Repository
from shared.nats.subjects import COLLECTIONS

__all__ = ["Collections"]

COLLECTION_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


class Collections:
    """The collections of all tenants."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, COLLECTIONS, Collection.model_validate_json, noun="collection")

    async def create(
        self,
        tenant: str,
        name: str,
        *,
        description: str = "",
        pipeline: str | None = None,
        retrieval: RetrievalFields = NO_OPTIONS,
        embedding_model: str = "",
        rerank_model: str = "",
        adapter: str = "",
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
                "table": table_name(name),
                "description": description,
                "pipeline": pipeline,
                "created_at": time.time(),
            }
        ).with_settings(
            retrieval=retrieval, embedding_model=embedding_model, rerank_model=rerank_model, adapter=adapter
        )
        known, new = await self._records.create(f"{tenant}.{name}", record)
        if _settings(known) != _settings(record):
            raise Problem(ProblemType.CONFLICT, f"The collection '{name}' exists already with other settings.")
        return known, new

    async def get(self, tenant: str, name: str) -> Collection:
        """Raises Problem COLLECTION_NOT_FOUND."""
        record = await self._records.get(f"{tenant}.{name}") if COLLECTION_NAME.fullmatch(name) else None
        if record is None:
            raise _missing(name)
        return record

    async def update(self, known: Collection, change: Callable[[Collection], Collection]) -> Collection:
        """Change a collection's record, whoever else does at the same time. Returns it as it is then.

        `change` may be called several times, and may raise what it likes. Raises Problem COLLECTION_NOT_FOUND where
        the collection is not there any more, be there another one of its name.
        """

        def changed(record: Collection) -> Collection:
            if record.id != known.id:
                raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{known.name}' was deleted.")
            return change(record)

        after = await self._records.update(f"{known.tenant}.{known.name}", changed)
        if after is None:
            raise _missing(known.name)
        return after

    async def every(self) -> list[Collection]:
        """The collections of all tenants, in no order."""
        return await self._records.list()

    async def list(self, tenant: str) -> list[Collection]:
        """All collections by name."""
        return sorted(await self._records.list(f"{tenant}.>"), key=lambda collection: collection.name)

    async def delete(self, tenant: str, name: str) -> Collection:
        """Forget a collection; its table is left to a `drop` job. Raises Problem COLLECTION_NOT_FOUND."""
        record = await self.get(tenant, name)
        await self._records.delete(f"{tenant}.{name}")
        return record


def _settings(collection: Collection) -> tuple[object, ...]:
    live = collection.live
    options = live.retrieval.as_params()
    models = (live.embedding_model, live.rerank_model, live.adapter)
    return collection.description, collection.pipeline, options, models


def _missing(name: str) -> Problem:
    return Problem(
        ProblemType.COLLECTION_NOT_FOUND,
        f"There is no collection '{name[:80]}'. Create it with POST /v1/collections, or by ingesting into it.",
    )
