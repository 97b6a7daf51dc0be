"""Kept answers as they are read outside the gateway: the bucket `answers`, with keys `<tenant>.<answer>`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from nats.js import JetStreamContext
from pydantic import ValidationError

from shared.contracts.kept_questions import KeptQuestion
from shared.nats.kv import Repository
from shared.nats.subjects import ANSWERS

__all__ = ["KeptQuestions"]


class KeptQuestions:
    """The questions of all tenants. Methods raise nats errors, and TimeoutError if the broker falls silent."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, ANSWERS, KeptQuestion.model_validate_json, noun="answer")

    async def all(self) -> AsyncGenerator[tuple[str, KeptQuestion], None]:
        """Each with its tenant, one record at a time, in no order; those of shadows and unreadable ones are left
        out."""
        async with aclosing(self._records.entries("*.*")) as entries:
            async for key, value in entries:
                try:
                    question = KeptQuestion.model_validate_json(value)
                except ValidationError:
                    continue
                yield key.partition(".")[0], question
