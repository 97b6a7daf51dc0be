"""The mailbox of one query: order, bounds, and what cannot be read."""

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.reply import PENDING_EVENTS, AnyEvent, Delta, Done, Mailbox, encode_event

pytestmark = pytest.mark.anyio


def message(data: bytes) -> Msg:
    return Msg(_client=Client(), subject="reply.a.q", data=data)


async def filled(*events: AnyEvent | bytes) -> Mailbox:
    mailbox = Mailbox(Client(), "q")
    for event in events:
        await mailbox.deliver(message(event if isinstance(event, bytes) else encode_event(event)))
    return mailbox


async def test_events_come_in_the_order_of_their_sending() -> None:
    events = [*(Delta(index=n, text=str(n)) for n in range(3)), Done(deltas=3)]
    mailbox = await filled(*events)
    assert [await mailbox.receive(1) for _ in events] == events


async def test_what_is_no_event_is_passed_over() -> None:
    mailbox = await filled(b"", b"rubbish", b'{"type":"unknown"}', Done(deltas=0))
    assert await mailbox.receive(1) == Done(deltas=0)


async def test_silence_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        await (await filled()).receive(0)


async def test_a_reader_who_is_far_too_slow_sees_a_gap_and_the_end() -> None:
    mailbox = await filled(*(Delta(index=n, text="x") for n in range(PENDING_EVENTS)), Done(deltas=PENDING_EVENTS))
    received = [await mailbox.receive(1) for _ in range(PENDING_EVENTS)]
    assert received[0] == Delta(index=1, text="x")
    assert isinstance(received[-1], Done)
