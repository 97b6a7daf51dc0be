"""What steps of pipelines have added to envelopes, in the stream `CACHE` of the broker's memory.

The oldest go where there is no room.
"""

from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from pydantic import ValidationError

from shared.contracts.graphs.caching import Kept
from shared.nats.client import max_payload
from shared.nats.subjects import CACHE
from shared.stores.dead_letters import HEADERS

__all__ = ["StepResults"]

SHORTEST: Final = 1.0
"""Seconds: the broker lets no message go sooner."""

PATIENCE: Final = 1.0
"""Seconds for the broker to take a record."""


class StepResults:
    """A record that cannot be read or written is none: the steps are done."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream

    async def get(self, record: str) -> Kept | None:
        try:
            message = await self._js.get_msg(CACHE, subject=_subject(record), direct=True)
            return Kept.model_validate_json(message.data or b"")
        except (NotFoundError, NatsError, TimeoutError, OSError, ValidationError):
            return None

    async def put(self, record: str, kept: Kept, seconds: float) -> bool:
        """Returns whether it is kept; nothing that is larger than a message is."""
        data = kept.model_dump_json().encode()
        if len(data) + HEADERS > max_payload(self._js):
            return False
        headers = {"Nats-TTL": f"{max(SHORTEST, seconds):.0f}s"}
        try:
            await self._js.publish(_subject(record), data, headers=headers, stream=CACHE, timeout=PATIENCE)
        except (NatsError, TimeoutError, OSError):
            return False
        return True


def _subject(record: str) -> str:
    return f"cache.{record}"
