"""Promise 3: forward before acknowledging; a crash is a redelivery, and a duplicate is harmless."""

import asyncio
from contextlib import suppress

import pytest
from nats.js.errors import NotFoundError

from shared.contracts.envelope import Hop, Query
from shared.contracts.events import Progress, Result
from shared.runtime.stage import Context
from tests.harness.stage_harness import PATIENCE, Gate, StageHarness, outcomes, until

pytestmark = pytest.mark.anyio


async def pass_on(query: Query, context: Context) -> Query:
    return query


async def test_storing_the_same_hop_twice_stores_it_once(harness: StageHarness) -> None:
    """What a worker that died between forwarding and acknowledging leaves for its successor to repeat."""
    query = harness.query("first", "second")
    done = query.advance(Hop(stage="first", variant="default", worker="died", waited_ms=0, worked_ms=0))
    await harness.submit(done)
    async with harness.working(pass_on, "first"):
        await harness.submit(query)
        await harness.empty("first")
    assert await harness.stored("query.second.>") == 1
    assert outcomes("first", "forwarded") == 1


async def test_a_hop_that_was_taken_off_the_next_queue_already_is_not_stored_again(harness: StageHarness) -> None:
    gate = Gate()
    gate.open()
    query = harness.query("first", "second")
    async with harness.working(gate, "second"):
        done = query.advance(Hop(stage="first", variant="default", worker="died", waited_ms=0, worked_ms=0))
        await harness.submit(done)
        await gate.next()
        await harness.empty("second")
        async with harness.working(pass_on, "first", instance="successor"):
            await harness.submit(query)
            await harness.empty("first")
        await harness.empty("second")
        assert gate.started.empty()


async def test_a_slip_may_visit_the_same_stage_twice(harness: StageHarness) -> None:
    async with harness.working(pass_on, "again"):
        events = await harness.ask(harness.query("again", "again", "again"))
    assert isinstance(events[-1], Result)
    assert [hop.stage for hop in events[-1].query.trail] == ["again"] * 3


async def test_another_attempt_at_a_query_is_new_work(harness: StageHarness) -> None:
    gate = Gate()
    async with harness.working(gate, "attempts"):
        query = await harness.submit(harness.query("attempts"))
        await harness.submit(query)
        await harness.submit(query.resubmitted())
        assert [(await gate.next()).attempt, (await gate.next()).attempt] == [1, 2]
        gate.open()
        await harness.empty("attempts")
        assert gate.started.empty()


async def test_work_that_takes_longer_than_ack_wait_is_not_redelivered_as_long_as_its_worker_lives(
    harness: StageHarness,
) -> None:
    gate = Gate()
    async with harness.working(gate, "long"), harness.working(gate, "long", instance="free"):
        await harness.submit(harness.query("long"))
        await gate.next()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 2.5 * harness.settings.ack_wait

        async def long_past_ack_wait() -> bool:
            return loop.time() > deadline

        await until(long_past_ack_wait)
        assert gate.started.empty()
        assert (await harness.queue("long")).num_redelivered == 0
        gate.open()
        await harness.empty("long")


async def test_work_from_before_the_broker_lost_its_memory_acknowledges_nothing_of_what_came_after(
    harness: StageHarness,
) -> None:
    """The broker takes an acknowledgement by its number in the stream, whoever's message has that number now."""
    gate = Gate()
    async with harness.working(gate, "old", room=10):
        held = [await harness.submit(harness.query("old")) for _ in range(5)]
        for _ in held:
            await gate.next()
        await harness.jetstream.delete_stream("QUERIES")
        await harness.topology.ensure()
        for _ in range(5):
            await harness.submit(harness.query("other"))

        async def queue_is_back() -> bool:
            with suppress(NotFoundError):
                return (await harness.queue("old")).num_waiting > 0
            return False

        await until(queue_is_back)
        for _ in range(5):
            await harness.submit(harness.query("other"))
        again = [await harness.submit(harness.query("old")) for _ in range(3)]
        for _ in again:
            await gate.next()
        assert (await harness.queue("old")).num_ack_pending == 3
        for query in held:
            gate.release(query)

        async def old_work_is_done() -> bool:
            return len(gate.working) == 3 and outcomes("old", "answered") == 5

        await until(old_work_is_done)
        assert await harness.stored("query.other.>") == 10
        assert (await harness.queue("old")).num_ack_pending == 3
        gate.open()
        await harness.empty("old")


async def test_a_worker_that_stood_still_beyond_ack_wait_does_not_do_the_same_work_twice(harness: StageHarness) -> None:
    gate = Gate()
    async with harness.working(gate, "still") as worker:
        query = harness.query("still")
        async with harness.replies_to(query) as mailbox:
            await gate.next()
            held = [each for consumer in worker._consumers.values() for each in consumer._held.by_task.values()]
            assert len(held) == 1
            for delivery in held:
                delivery.settled = True  # as if the process were stopped: the broker hears nothing

            async def redelivered() -> bool:
                return outcomes("still", "duplicate") == 1

            await until(redelivered, "the duplicate's arrival")
            for delivery in held:
                delivery.settled = False
            gate.open()
            events = await harness.events(mailbox)
        assert [type(event) for event in events] == [Progress, Result]
        await harness.empty("still")
        assert gate.started.empty()


async def test_a_message_whose_handler_was_cancelled_goes_back_at_once(harness: StageHarness) -> None:
    first, second = Gate(), Gate()
    async with harness.working(first, "handed", instance="a", room=1) as worker:
        query = await harness.submit(harness.query("handed"))
        await first.next()
        async with harness.working(second, "handed", instance="b"):
            await worker.drain(0)
            async with asyncio.timeout(PATIENCE):
                assert (await second.started.get()).id == query.id
            second.open()
            await harness.empty("handed")
