"""What is known of queries in parallel branches, in the bucket `joins`, which lives in the broker's memory."""

import asyncio
from collections.abc import Callable
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import APIError

from shared.contracts.graphs.joins import JoinRecord
from shared.contracts.problems import Problem, ProblemType
from shared.nats.client import max_payload
from shared.nats.errors import CHANGED, QUEUE_FULL
from shared.nats.kv import PAUSE, TRIES, Repository
from shared.nats.subjects import JOINS
from shared.stores.dead_letters import HEADERS

__all__ = ["JoinStore"]

AT_ONCE: Final = 4
"""Tries without a pause: branches that end in the same moment are few."""


class JoinStore:
    """One record for each ensemble that a query is in. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._records = Repository(jetstream, JOINS, _decode, encode=_encode)

    async def begin(self, key: str, record: JoinRecord) -> None:
        """Keep a record, unless there is one. Raises Problem QUEUE_FULL, and TOO_LARGE for one that fits no message."""
        await self._write(key, record, 0)

    async def end(self, key: str, change: Callable[[JoinRecord], JoinRecord]) -> JoinRecord | None:
        """Compare and set: what `change` makes of the record, which may be called several times. None where there is no
        record any more. Raises Problem as `begin` does, and BROKER_UNAVAILABLE after many changes by others.
        """
        for attempt in range(TRIES):
            stored = await self._records.read(key)
            if stored is None:
                return None
            record = change(stored.record)
            if record is stored.record or await self._write(key, record, stored.revision):
                return record
            if attempt >= AT_ONCE:
                await asyncio.sleep(PAUSE)
        raise Problem(ProblemType.BROKER_UNAVAILABLE, "The branches of the pipeline cannot be joined now. Try again.")

    async def close(self, key: str) -> None:
        """Forget all but that the query has gone on."""
        await self._records.put(key, JoinRecord())

    async def _write(self, key: str, record: JoinRecord, revision: int) -> bool:
        size, limit = len(_encode(record)), max_payload(self._js) - HEADERS
        if size > limit:
            raise Problem(
                ProblemType.TOO_LARGE,
                f"The branches of the pipeline together have grown to {size:,} bytes, and the message broker takes "
                f"{limit:,} at most. Ask for fewer passages, or for shorter ones.",
            )
        try:
            return await self._records.put(key, record, revision=revision) is not None
        except APIError as error:
            if error.err_code in CHANGED:
                return False
            if error.err_code not in QUEUE_FULL:
                raise
            detail = "Too many queries are in parallel branches of pipelines. Try again after a moment."
            raise Problem(ProblemType.QUEUE_FULL, detail, headers={"Retry-After": "1"}) from None


_decode = JoinRecord.model_validate_json


def _encode(record: JoinRecord) -> bytes:
    return record.__pydantic_serializer__.to_json(record, exclude_defaults=True)
