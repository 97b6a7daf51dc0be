"""Reading the audit log: every stored event of some jobs, as it stands."""

from collections.abc import AsyncGenerator
from typing import Final

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

from shared.nats.client import end_reading
from shared.nats.subjects import JOB_EVENTS

__all__ = ["stored_events"]

SILENCE: Final = 10.0
"""Seconds for the broker to deliver the next event."""


async def stored_events(jetstream: JetStreamContext, subject: str) -> AsyncGenerator[Msg, None]:
    """The events on a subject that are stored now, oldest first. Raises nats errors; close it if you leave early."""
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, inactive_threshold=60.0)
    events = await jetstream.subscribe(subject, stream=JOB_EVENTS, ordered_consumer=True, config=config)
    try:
        info = await events.consumer_info()
        # Some may be on their way already.
        left = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
        while left > 0:
            message = await events.next_msg(timeout=SILENCE)
            left = message.metadata.num_pending
            yield message
    finally:
        await end_reading(events)
