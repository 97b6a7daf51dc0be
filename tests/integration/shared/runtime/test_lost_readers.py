"""Promise 6: no work for a reader who has left."""

import asyncio

import pytest

from shared.contracts.envelope import Query
from shared.contracts.events import Delta, Done, Progress, Usage
from shared.runtime.options import RuntimeOptions
from shared.runtime.replies import open_mailbox
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import PATIENCE, Gate, StageHarness, outcomes, settle, until

pytestmark = pytest.mark.anyio


class Endless:
    """Streams until it is stopped, one delta for each permission."""

    def __init__(self) -> None:
        self.more = asyncio.Semaphore(0)
        self.ended = asyncio.Event()

    async def __call__(self, query: Query, context: Context) -> None:
        try:
            while True:
                await self.more.acquire()
                await context.delta("word ")
        finally:
            self.ended.set()


async def test_a_stream_whose_reader_has_left_stops_at_its_next_delta(harness: StageHarness) -> None:
    endless = Endless()
    async with harness.working(endless, "stream"):
        query = harness.query("stream").model_copy(update={"reply": "reply.left.q"})
        async with open_mailbox(harness.client, "left", "q") as mailbox:
            await harness.submit(query)
            assert isinstance(await mailbox.receive(PATIENCE), Progress)
            endless.more.release()
            assert isinstance(await mailbox.receive(PATIENCE), Delta)
        await settle(harness.client)
        assert not endless.ended.is_set(), "the worker cannot know before it sends"
        endless.more.release()
        async with asyncio.timeout(PATIENCE):
            await endless.ended.wait()
        await harness.empty("stream")
    assert outcomes("stream", "reader_left") == 1


async def test_work_that_does_not_stream_stops_as_it_starts_when_its_reader_is_gone_by_then(
    harness: StageHarness,
) -> None:
    gate = Gate()
    async with harness.working(gate, "gone", room=1):
        await harness.submit(harness.query("gone").model_copy(update={"reply": "reply.gone.q"}))
        async with asyncio.timeout(PATIENCE):
            await gate.stopped.get()
        await harness.empty("gone")
    assert outcomes("gone", "reader_left") == 1


async def test_one_reader_who_leaves_stops_no_work_for_another(harness: StageHarness) -> None:
    gate = Gate()
    async with harness.working(gate, "pair"):
        stays = await harness.submit(harness.query("pair"))
        await gate.next()
        await harness.submit(harness.query("pair").model_copy(update={"reply": "reply.gone.q"}))
        async with asyncio.timeout(PATIENCE):
            await gate.stopped.get()
        assert list(gate.working) == [stays.id]
        gate.open()
        await harness.empty("pair")


async def test_deltas_arrive_in_order_and_without_gaps(harness: StageHarness) -> None:
    async def answer(query: Query, context: Context) -> None:
        for number in range(500):
            await context.delta(f"{number} ")
        await context.done(usage=Usage(), engine="test")

    async with harness.working(answer, "ordered"):
        events = await harness.ask(harness.query("ordered"))
    deltas = [event for event in events if isinstance(event, Delta)]
    assert [delta.index for delta in deltas] == list(range(500))
    assert "".join(delta.text for delta in deltas) == "".join(f"{number} " for number in range(500))
    assert isinstance(events[-1], Done)
    assert events[-1].deltas == 500


async def test_a_reader_who_is_not_back_yet_after_a_reconnection_is_not_taken_to_have_left(
    harness: StageHarness, broker: NatsServer
) -> None:
    steps = {step: asyncio.Event() for step in ("started", "go", "sent", "end")}

    async def process(query: Query, context: Context) -> Query:
        steps["started"].set()
        await steps["go"].wait()
        await context.delta("An event of the time without a connection.")
        steps["sent"].set()
        await steps["end"].wait()
        return query

    async with harness.working(process, "back", runtime=RuntimeOptions(reconnect_grace=3600.0)) as worker:
        client = worker._client
        reader = await harness.client.subscribe("reply.away.q")
        await harness.submit(harness.query("back").model_copy(update={"reply": "reply.away.q"}))
        await steps["started"].wait()
        broker.kill()
        await until(lambda: _true(not client.is_connected))
        await reader.unsubscribe()
        steps["go"].set()
        await steps["sent"].wait()
        inbox = f"{worker._lost_reader_inbox}.*"
        subscription = next(each for each in client._subs.values() if each.subject == inbox)
        heard = subscription.delivered
        broker.start()

        async def told() -> bool:
            return subscription.delivered > heard and not subscription.pending_msgs

        await until(told)
        steps["end"].set()
        await until(lambda: _true(outcomes("back", "answered") == 1))


async def _true(condition: bool) -> bool:
    return condition
