"""Feedback in the bucket `feedback`: keys are `<tenant>.<answer>.<hash of the reader>`."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence

from nats.js import JetStreamContext

from shared.nats.kv import Repository, Stored
from shared.nats.subjects import FEEDBACK
from sluice.api.feedback import Feedback

__all__ = ["FeedbackStore"]


class FeedbackStore:
    """The feedback of all tenants, one record for each answer and reader. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, FEEDBACK, Feedback.model_validate_json, encode=_encode, noun="feedback")

    async def get(self, tenant: str, answer: str, reader: str) -> Feedback | None:
        return await self._records.get(_key(tenant, answer, reader))

    async def change(
        self, tenant: str, answer: str, reader: str, change: Callable[[Feedback | None], Feedback]
    ) -> tuple[Feedback | None, Feedback]:
        """The record before and after. Raises Problem CONFLICT."""
        before, after = await self._records.change(_key(tenant, answer, reader), change)
        assert after is not None
        return before, after

    async def newest(self, tenant: str, limit: int, before: int | None) -> Sequence[Stored[Feedback]]:
        """The last changed first."""
        return await self._records.newest(f"{tenant}.>", limit, before=before)

    async def about_reader(self, tenant: str, reader: str) -> AsyncIterator[Feedback]:
        """All that anybody has said of answers to one reader, and what the reader has said. Reads all of the tenant."""
        async for _, value in self._records.entries(f"{tenant}.>"):
            found = Feedback.model_validate_json(value)
            if reader in (found.reader, found.kept.reader, found.kept.key):
                yield found

    async def delete(self, tenant: str, feedback: Feedback) -> None:
        """Remove a record; one that is not there is no error."""
        await self._records.purge(_key(tenant, feedback.answer, feedback.reader))


def _encode(feedback: Feedback) -> bytes:
    return feedback.model_dump_json(exclude_defaults=True).encode()


def _hash(reader: str) -> str:
    # A reader's name may hold characters that the broker allows in no key.
    return hashlib.sha256(reader.encode()).hexdigest()


def _key(tenant: str, answer: str, reader: str) -> str:
    return f"{tenant}.{answer}.{_hash(reader)}"
