"""The mailbox of one query: order, bounds, and what cannot be read."""

import asyncio

import anyio
import pytest
from nats.aio.msg import Msg

from shared.contracts.events import AnyEvent, Delta, Done, Progress, encode_event, join_events
from shared.nats.client import Connection
from shared.runtime.replies import PENDING_EVENTS, Mailbox

pytestmark = pytest.mark.anyio


def message(data: bytes) -> Msg:
    return Msg(_client=Connection(), subject="reply.a.q", data=data)


def filled(*events: AnyEvent | bytes) -> Mailbox:
    mailbox = Mailbox(Connection(), "q")
    for event in events:
        mailbox.deliver(message(event if isinstance(event, bytes) else encode_event(event)))
    return mailbox


async def test_events_come_in_the_order_of_their_sending() -> None:
    events = [*(Delta(index=n, text=str(n)) for n in range(3)), Done(deltas=3)]
    mailbox = filled(*events)
    assert [await mailbox.receive(1) for _ in events] == events


async def test_what_is_no_event_is_passed_over() -> None:
    mailbox = filled(b"", b"rubbish", b'{"type":"unknown"}', Done(deltas=0))
    assert await mailbox.receive(1) == Done(deltas=0)


async def test_silence_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        await filled().receive(0)


async def test_a_reader_who_is_far_too_slow_sees_a_gap_and_the_end() -> None:
    mailbox = filled(*(Delta(index=n, text="x") for n in range(PENDING_EVENTS)), Done(deltas=PENDING_EVENTS))
    received = [await mailbox.receive(1) for _ in range(PENDING_EVENTS)]
    assert received[0] == Delta(index=1, text="x")
    assert isinstance(received[-1], Done)


async def test_several_events_of_one_message_come_one_by_one_and_rubbish_among_them_is_passed_over() -> None:
    events = [Delta(index=0, text="a\nb"), Delta(index=1, text="c"), Done(deltas=2)]
    mailbox = filled(join_events([*map(encode_event, events[:2]), b"rubbish", encode_event(events[2])]))
    assert [await mailbox.receive(1) for _ in events] == events


async def test_progress_alone_does_not_wake_the_reader_of_a_quiet_mailbox_and_keeps_its_place() -> None:
    mailbox = Mailbox(Connection(), "q", quiet=True)
    reading = asyncio.create_task(mailbox.receive(None))
    await anyio.wait_all_tasks_blocked()
    mailbox.put(Progress(stage="embed"))
    await anyio.wait_all_tasks_blocked()
    assert not reading.done()
    mailbox.put(Done(deltas=0))
    assert await reading == Progress(stage="embed")
    assert mailbox.more() == Done(deltas=0)
    assert mailbox.more() is None
