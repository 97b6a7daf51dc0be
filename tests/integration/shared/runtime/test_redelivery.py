"""Promise 3: forward before acknowledging; a crash is a redelivery, and a duplicate is harmless."""

import asyncio
from contextlib import suppress

import pytest
from nats.js.errors import NotFoundError

from shared.contracts.envelope import Hop, Query
from shared.contracts.events import Progress, Result
from shared.runtime.stage import Context
from tests.harness.bench import PATIENCE, Gate, StageHarness, outcomes, until

pytestmark = pytest.mark.anyio


async def pass_on(query: Query, context: Context) -> Query:
    return query


async def test_storing_the_same_hop_twice_stores_it_once(bench: StageHarness) -> None:
    """What a worker that died between forwarding and acknowledging leaves for its successor to repeat."""
    query = bench.query("first", "second")
    done = query.advance(Hop(stage="first", variant="default", worker="died", waited_ms=0, worked_ms=0))
    await bench.submit(done)
    async with bench.working(pass_on, "first"):
        await bench.submit(query)
        await bench.empty("first")
    assert await bench.stored("query.second.>") == 1
    assert outcomes("first", "forwarded") == 1


async def test_a_hop_that_was_taken_off_the_next_queue_already_is_not_stored_again(bench: StageHarness) -> None:
    gate = Gate()
    gate.open()
    query = bench.query("first", "second")
    async with bench.working(gate, "second"):
        done = query.advance(Hop(stage="first", variant="default", worker="died", waited_ms=0, worked_ms=0))
        await bench.submit(done)
        await gate.next()
        await bench.empty("second")
        async with bench.working(pass_on, "first", instance="successor"):
            await bench.submit(query)
            await bench.empty("first")
        await bench.empty("second")
        assert gate.started.empty()


async def test_a_slip_may_visit_the_same_stage_twice(bench: StageHarness) -> None:
    async with bench.working(pass_on, "again"):
        events = await bench.ask(bench.query("again", "again", "again"))
    assert isinstance(events[-1], Result)
    assert [hop.stage for hop in events[-1].query.trail] == ["again"] * 3


async def test_another_attempt_at_a_query_is_new_work(bench: StageHarness) -> None:
    gate = Gate()
    async with bench.working(gate, "attempts"):
        query = await bench.submit(bench.query("attempts"))
        await bench.submit(query)
        await bench.submit(query.resubmitted())
        assert [(await gate.next()).attempt, (await gate.next()).attempt] == [1, 2]
        gate.open()
        await bench.empty("attempts")
        assert gate.started.empty()


async def test_work_that_takes_longer_than_ack_wait_is_not_redelivered_as_long_as_its_worker_lives(
    bench: StageHarness,
) -> None:
    gate = Gate()
    async with bench.working(gate, "long"), bench.working(gate, "long", instance="free"):
        await bench.submit(bench.query("long"))
        await gate.next()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 2.5 * bench.settings.ack_wait

        async def long_past_ack_wait() -> bool:
            return loop.time() > deadline

        await until(long_past_ack_wait)
        assert gate.started.empty()
        assert (await bench.queue("long")).num_redelivered == 0
        gate.open()
        await bench.empty("long")


async def test_work_from_before_the_broker_lost_its_memory_acknowledges_nothing_of_what_came_after(
    bench: StageHarness,
) -> None:
    """The broker takes an acknowledgement by its number in the stream, whoever's message has that number now."""
    gate = Gate()
    async with bench.working(gate, "old", room=10):
        held = [await bench.submit(bench.query("old")) for _ in range(5)]
        for _ in held:
            await gate.next()
        await bench.jetstream.delete_stream("QUERIES")
        await bench.topology.ensure()
        for _ in range(5):
            await bench.submit(bench.query("other"))

        async def queue_is_back() -> bool:
            with suppress(NotFoundError):
                return (await bench.queue("old")).num_waiting > 0
            return False

        await until(queue_is_back)
        for _ in range(5):
            await bench.submit(bench.query("other"))
        again = [await bench.submit(bench.query("old")) for _ in range(3)]
        for _ in again:
            await gate.next()
        assert (await bench.queue("old")).num_ack_pending == 3
        for query in held:
            gate.release(query)

        async def old_work_is_done() -> bool:
            return len(gate.working) == 3 and outcomes("old", "answered") == 5

        await until(old_work_is_done)
        assert await bench.stored("query.other.>") == 10
        assert (await bench.queue("old")).num_ack_pending == 3
        gate.open()
        await bench.empty("old")


async def test_a_worker_that_stood_still_beyond_ack_wait_does_not_do_the_same_work_twice(bench: StageHarness) -> None:
    gate = Gate()
    async with bench.working(gate, "still") as worker:
        query = bench.query("still")
        async with bench.asking(query) as mailbox:
            await gate.next()
            consumer = next(iter(worker._consumers.values()))
            for delivery in consumer._held.values():
                delivery.settled = True  # as if the process were stopped: the broker hears nothing

            async def redelivered() -> bool:
                return outcomes("still", "duplicate") == 1

            await until(redelivered, "the duplicate's arrival")
            for delivery in consumer._held.values():
                delivery.settled = False
            gate.open()
            events = await bench.events(mailbox)
        assert [type(event) for event in events] == [Progress, Result]
        await bench.empty("still")
        assert gate.started.empty()


async def test_a_message_whose_handler_was_cancelled_goes_back_at_once(bench: StageHarness) -> None:
    first, second = Gate(), Gate()
    async with bench.working(first, "handed", instance="a", room=1) as worker:
        query = await bench.submit(bench.query("handed"))
        await first.next()
        async with bench.working(second, "handed", instance="b"):
            await worker.drain(0)
            async with asyncio.timeout(PATIENCE):
                assert (await second.started.get()).id == query.id
            second.open()
            await bench.empty("handed")
