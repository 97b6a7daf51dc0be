"""Events of one try that come together travel together, to readers that take them so."""

import asyncio

import pytest
from nats.aio.msg import Msg

from shared.contracts.envelope import Query
from shared.contracts.events import Delta, Failed, Progress, Usage, decode_event
from shared.contracts.problems import ProblemType
from shared.runtime.stage import Context
from tests.harness.stage_harness import PATIENCE, StageHarness

pytestmark = pytest.mark.anyio

WORDS = 500


async def talk(query: Query, context: Context) -> None:
    for number in range(WORDS):
        await context.delta(f"{number} ")
    await context.done(usage=Usage(), engine="test")


async def messages_of(harness: StageHarness, query: Query) -> list[bytes]:
    """The messages of a query's reply as they come, up to its end."""
    messages: list[bytes] = []
    ended = asyncio.Event()

    async def take(message: Msg) -> None:
        messages.append(message.data)
        if b'"done"' in message.data:
            ended.set()

    subscription = await harness.client.subscribe(query.reply, cb=take)
    await harness.submit(query)
    async with asyncio.timeout(PATIENCE):
        await ended.wait()
    await subscription.unsubscribe()
    return messages


async def test_a_burst_of_events_takes_few_messages_and_loses_none(harness: StageHarness) -> None:
    async with harness.working(talk, "burst"):
        messages = await messages_of(harness, harness.query("burst"))
    events = [decode_event(line) for message in messages for line in message.split(b"\n")]
    assert [event.type for event in events] == ["progress", *["delta"] * WORDS, "done"]
    assert [event.index for event in events if isinstance(event, Delta)] == list(range(WORDS))
    assert len(messages) <= WORDS // 2


async def test_a_reader_of_the_version_before_gets_a_message_for_each_event(harness: StageHarness) -> None:
    async with harness.working(talk, "apart"):
        messages = await messages_of(harness, harness.query("apart", joined=False))
    assert [decode_event(message).type for message in messages] == ["progress", *["delta"] * WORDS, "done"]


async def test_an_event_that_waits_for_others_goes_without_them_soon(harness: StageHarness) -> None:
    more = asyncio.Event()

    async def answer(query: Query, context: Context) -> None:
        await context.delta("one ")
        await context.delta("two")
        await more.wait()
        await context.done(usage=Usage(), engine="test")

    async with harness.working(answer, "slow"):
        query = harness.query("slow")
        async with harness.replies_to(query) as mailbox:
            assert isinstance(await mailbox.receive(PATIENCE), Progress)
            deltas = [await mailbox.receive(PATIENCE) for _ in range(2)]
            more.set()
            await harness.events(mailbox)
    assert [delta.text for delta in deltas if isinstance(delta, Delta)] == ["one ", "two"]


async def test_an_event_that_no_message_holds_ends_the_query_after_those_before_it(harness: StageHarness) -> None:
    async def answer(query: Query, context: Context) -> None:
        await context.delta("short")
        await context.delta("long" * harness.client.max_payload)

    async with harness.working(answer, "large"):
        events = await harness.ask(harness.query("large"))
    assert [event.type for event in events] == ["progress", "delta", "failed"]
    assert isinstance(events[-1], Failed)
    assert events[-1].problem.type == ProblemType.TOO_LARGE.uri
