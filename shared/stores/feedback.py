"""What readers said, as it is read outside the gateway: the bucket `feedback`, whose keys begin with the tenant."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from nats.js import JetStreamContext

from shared.contracts.feedback import ReaderFeedback
from shared.nats.kv import Repository
from shared.nats.subjects import FEEDBACK

__all__ = ["ReadersFeedback"]


class ReadersFeedback:
    """The feedback of all tenants. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, FEEDBACK, ReaderFeedback.model_validate_json, noun="feedback")

    async def of(self, tenant: str) -> AsyncGenerator[ReaderFeedback, None]:
        """Everything that was said in a tenant, one record at a time, in no order."""
        async with aclosing(self._records.entries(f"{tenant}.>")) as entries:
            async for _, value in entries:
                yield ReaderFeedback.model_validate_json(value)
