"""Reading a stream from its end: the last messages on some subjects, page by page."""

from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamState

from shared.nats.client import end_reading

__all__ = ["last_messages"]

NARROWEST: Final = 64
WIDER: Final = 4
"""Messages of any subject that are looked through at first, and how many times more the next time."""

TRIES: Final = 5
"""Times that a stream is read which changes meanwhile, and seems to hold too little."""

PORTION: Final = 100
SILENCE: Final = 10.0
"""Seconds for the broker to deliver what it has."""


async def last_messages(
    jetstream: JetStreamContext,
    stream: str,
    subject: str,
    limit: int,
    *,
    wanted: Callable[[Msg], bool],
    before: int | None = None,
) -> list[Msg]:
    """The last messages on a subject, with wildcards or without, that are wanted, the newest first: of all, or of those
    before the one with the number `before`.

    The broker reads forwards only, so a window at the end is widened until it holds enough. Raises nats errors, and
    TimeoutError if the broker falls silent.
    """
    state = (await jetstream.stream_info(stream)).state
    for _ in range(TRIES):
        found = await _widening(jetstream, stream, subject, limit, wanted, before, state)
        now = (await jetstream.stream_info(stream)).state
        if len(found) >= limit or now.last_seq == state.last_seq:
            break
        # For a moment the broker counts a message that takes the place of another one nowhere.
        state = now
    return found


async def _widening(
    jetstream: JetStreamContext,
    stream: str,
    subject: str,
    limit: int,
    wanted: Callable[[Msg], bool],
    before: int | None,
    state: StreamState,
) -> list[Msg]:
    first, last = max(state.first_seq, 1), state.last_seq if before is None else min(state.last_seq, before - 1)
    width = max(limit, NARROWEST)
    # What is written anew meanwhile has its place behind the end as it was.
    end = None if before is None else last
    found: list[Msg] = []
    while last >= first and len(found) < limit:
        start = max(first, last - width + 1)
        messages = await _messages(jetstream, stream, subject, start, end)
        found = [message for message in messages if wanted(message)] + found
        end = last = start - 1
        width *= WIDER
    return found[::-1][:limit]


async def _messages(jetstream: JetStreamContext, stream: str, subject: str, start: int, last: int | None) -> list[Msg]:
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=start,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=SILENCE,
        mem_storage=True,
        num_replicas=1,
    )
    found: list[Msg] = []
    reader = await jetstream.pull_subscribe(subject, stream=stream, config=config)
    try:
        left = (await reader.consumer_info()).num_pending or 0
        while left:
            try:
                portion = await reader.fetch(min(left, PORTION), timeout=SILENCE)
            except NatsTimeout:
                raise TimeoutError("the broker did not send the end of a stream") from None
            for message in portion:
                if last is not None and message.metadata.sequence.stream > last:
                    return found
                found.append(message)
                left = message.metadata.num_pending
    finally:
        await end_reading(reader)
    return found
