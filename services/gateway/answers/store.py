"""Answers in the bucket `answers`: keys are `<tenant>.<answer>`, and `<tenant>.<answer>.<stage>.<variant>` for those of
its shadows."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from nats.js import JetStreamContext

from shared.nats.kv import Repository, Stored
from shared.nats.subjects import ANSWERS
from sluice.api.feedback import KeptAnswer

__all__ = ["AnswerStore", "answer_id"]

ID: Final = re.compile(r"(?:chatcmpl-|cmpl-)?([0-9a-f]{16,64})")


def answer_id(given: str) -> str | None:
    """The id of an answer as the platform writes it, or as OpenAI's API does; None for what is no id."""
    found = ID.fullmatch(given)
    return found[1] if found else None


class AnswerStore:
    """The answers of all tenants. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, ANSWERS, KeptAnswer.model_validate_json, encode=_encode, noun="answer")

    async def put(self, tenant: str, answer: KeptAnswer) -> None:
        """Write an answer; one of a shadow beside the answer with the same id."""
        key = f"{tenant}.{answer.id}"
        await self._records.put(f"{key}.{answer.stage}.{answer.variant}" if answer.stage else key, answer)

    async def get(self, tenant: str, answer: str) -> KeptAnswer | None:
        return await self._records.get(f"{tenant}.{answer}")

    async def newest(self, tenant: str, limit: int, before: int | None) -> Sequence[Stored[KeptAnswer]]:
        """A tenant's answers without those of shadows, the newest first."""
        return await self._records.newest(f"{tenant}.*", limit, before=before)

    async def newest_of_shadow(
        self, tenant: str, stage: str, variant: str, limit: int, before: int | None
    ) -> Sequence[Stored[KeptAnswer]]:
        """The answers of a shadow, or of all shadows of a stage where `variant` is `*`, the newest first."""
        return await self._records.newest(f"{tenant}.*.{stage}.{variant}", limit, before=before)

    async def delete(self, tenant: str, answer: str) -> None:
        """Remove an answer and those of its shadows. One that is not there is no error."""
        async for key, _ in self._records.entries(f"{tenant}.{answer}.>"):
            await self._records.purge(key)
        await self._records.purge(f"{tenant}.{answer}")

    async def of_reader(self, tenant: str, reader: str) -> AsyncIterator[KeptAnswer]:
        """The answers to one reader, and of shadows to them, as they come. Reads all of the tenant's."""
        async for _, answer in self._of_reader(tenant, reader):
            yield answer

    async def erase(self, tenant: str, reader: str) -> int:
        """Remove the answers to one reader, and of shadows to them. Returns how many there were without the latter."""
        answers = 0
        async for key, answer in self._of_reader(tenant, reader):
            await self._records.purge(key)
            answers += not answer.stage
        return answers

    async def _of_reader(self, tenant: str, reader: str) -> AsyncIterator[tuple[str, KeptAnswer]]:
        async for key, value in self._records.entries(f"{tenant}.>"):
            answer = KeptAnswer.model_validate_json(value)
            if reader in (answer.reader, answer.key):
                yield key, answer


def _encode(answer: KeptAnswer) -> bytes:
    return answer.model_dump_json(exclude_defaults=True).encode()
