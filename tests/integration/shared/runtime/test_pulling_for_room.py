"""Promise 1: pull what there is room for, at once, and no more."""

import asyncio

import pytest
from nats.js.api import ConsumerInfo

from shared.contracts.envelope import Lane
from shared.runtime.options import RuntimeOptions
from shared.runtime.worker import StageWorker
from tests.harness.stage_harness import Gate, StageHarness, until

pytestmark = pytest.mark.anyio


async def test_a_worker_holds_as_many_messages_as_it_has_room_for_and_leaves_the_rest_in_the_queue(
    harness: StageHarness,
) -> None:
    gate = Gate()
    async with harness.working(gate, room=4):
        for _ in range(20):
            await harness.submit(harness.query("work"))
        for _ in range(4):
            await gate.next()
        await until(lambda: _splits(harness, 4, 16))
        gate.open()
        await harness.empty("work")
    assert gate.most == 4


async def test_both_lanes_together_hold_at_most_room_and_batch_room(harness: StageHarness) -> None:
    gate = Gate()
    async with harness.working(gate, room=4, batch_room=2):
        await until(lambda: _request_stands(harness, Lane.BATCH))
        for _ in range(2):
            await harness.submit(harness.query("work", lane=Lane.BATCH))
            await gate.next()
        for _ in range(10):
            await harness.submit(harness.query("work"))
            await harness.submit(harness.query("work", lane=Lane.BATCH))
        for _ in range(4):
            assert (await gate.next()).lane is Lane.INTERACTIVE
        assert (await harness.queue("work")).num_ack_pending == 4
        assert (await harness.queue("work", Lane.BATCH)).num_ack_pending == 2
        gate.open()
        await harness.empty("work")
        await harness.empty("work", Lane.BATCH)
    assert gate.most <= 6


async def test_a_stalled_worker_gets_nothing_more_and_a_free_one_takes_all(harness: StageHarness) -> None:
    stalled, free = Gate(), Gate()
    async with harness.working(stalled, room=1, instance="stalled"):
        await harness.submit(harness.query("work"))
        await stalled.next()
        async with harness.working(free, room=2, instance="free"):
            free.open()
            for _ in range(50):
                await harness.submit(harness.query("work"))
            for _ in range(50):
                await free.next()
            assert stalled.started.empty()
            assert (await until(lambda: _only_one_left(harness))).num_pending == 0
            stalled.open()
            await harness.empty("work")


async def _splits(harness: StageHarness, in_work: int, waiting: int) -> bool:
    """Polled, as the counters of the broker settle a moment after its messages have come."""
    info = await harness.queue("work")
    return (info.num_ack_pending, info.num_pending) == (in_work, waiting)


async def _only_one_left(harness: StageHarness) -> ConsumerInfo | None:
    info = await harness.queue("work")
    return info if info.num_ack_pending == 1 else None


async def test_a_message_goes_at_once_to_a_worker_that_waits_for_it(harness: StageHarness) -> None:
    gate = Gate()
    gate.open()
    async with harness.working(gate, room=16):
        for _ in range(100):  # more than one pull request's worth, one at a time: each is answered before the next
            await harness.submit(harness.query("work"))
            await gate.next()


async def test_while_interactive_messages_wait_the_batch_lane_gets_nothing(harness: StageHarness) -> None:
    gate = Gate()
    async with harness.working(gate, room=4, batch_room=4) as worker:
        await until(lambda: _request_stands(harness, Lane.BATCH))
        first = [await harness.submit(harness.query("work")) for _ in range(4)]
        for _ in range(4):
            await gate.next()
        # The batch lane's request from before stands: it is used up first.
        for _ in range(40):
            await harness.submit(harness.query("work"))
        before = [await harness.submit(harness.query("work", lane=Lane.BATCH)) for _ in range(8)]
        taken = [await gate.next() for _ in range(4)]
        assert {query.id for query in taken} == {query.id for query in before[:4]}
        for query in taken:
            gate.release(query)
        await until(lambda: _held(worker, Lane.BATCH, 0))
        holding = first
        for _ in range(10):
            # All of the room falls free at once, as with a model that works on batches.
            for query in holding:
                gate.release(query)
            holding = [await gate.next() for _ in range(4)]
            assert {query.lane for query in holding} == {Lane.INTERACTIVE}
        for query in holding:
            gate.release(query)
        rest = [await gate.next() for _ in range(4)]
        assert {query.lane for query in rest} == {Lane.BATCH}, "what is left goes to the batch lane"
        gate.open()


async def _request_stands(harness: StageHarness, lane: Lane) -> bool:
    return (await harness.queue("work", lane)).num_waiting == 1


async def _held(worker: StageWorker, lane: Lane, count: int) -> bool:
    return worker.statuses[0].in_flight[lane.value] == count


async def test_an_exclusive_stage_works_on_one_message_at_a_time_over_all_workers(harness: StageHarness) -> None:
    gate = Gate()
    options = {"room": 4, "lanes": (Lane.BATCH,), "batch_room": 4, "exclusive": True}
    async with harness.working(gate, instance="a", **options), harness.working(gate, instance="b", **options):
        for _ in range(10):
            await harness.submit(harness.query("work", lane=Lane.BATCH))
        for _ in range(10):
            query = await gate.next()
            assert (await harness.queue("work", Lane.BATCH)).num_ack_pending == 1
            gate.release(query)
        await harness.empty("work", Lane.BATCH)
    assert gate.most == 1


async def test_a_worker_pulls_again_within_its_room_after_its_pull_requests_have_expired(harness: StageHarness) -> None:
    gate = Gate()
    async with harness.working(gate, room=4, runtime=RuntimeOptions(pull_expires=0.2)) as worker:
        inbox = worker._consumers[Lane.INTERACTIVE]._subscription

        async def expired_twice() -> bool:
            return inbox is not None and inbox.delivered >= 2

        await until(expired_twice)
        for _ in range(12):
            await harness.submit(harness.query("work"))
        for _ in range(4):
            await gate.next()
        assert (await harness.queue("work")).num_ack_pending == 4
        gate.open()
        await harness.empty("work")
    assert gate.most == 4


async def test_a_worker_that_lost_count_of_its_requests_pulls_again_once_they_must_have_expired(
    harness: StageHarness,
) -> None:
    gate = Gate()
    gate.open()
    async with harness.working(gate, room=4, runtime=RuntimeOptions(pull_expires=0.1, pull_slack=0.1)) as worker:
        for consumer in worker._consumers.values():
            # As if the broker had sent messages that never came.
            consumer._requests.add(1000)
        await harness.submit(harness.query("work"))
        await harness.submit(harness.query("work"))
        await gate.next()
        await gate.next()


async def test_a_consumer_that_somebody_deleted_is_made_again_and_pulled_from_within_room(
    harness: StageHarness,
) -> None:
    gate = Gate()
    async with harness.working(gate, room=4):
        await harness.jetstream.delete_consumer("QUERIES", "work_default_interactive")
        for _ in range(12):
            await harness.submit(harness.query("work"))
        for _ in range(4):
            await gate.next()
        assert (await harness.queue("work")).num_ack_pending == 4
        gate.open()
        await harness.empty("work")
    assert gate.most == 4


async def test_resetting_a_worker_amid_its_work_neither_loses_messages_nor_takes_more_than_its_room(
    harness: StageHarness,
) -> None:
    gate = Gate()
    async with harness.working(gate, room=4) as worker:
        asked = {(await harness.submit(harness.query("work"))).id for _ in range(200)}
        seen = set()
        for _ in range(50):
            await asyncio.gather(worker.reset(), worker.reset())
            for _ in range(4):
                query = await gate.next()
                seen.add(query.id)
                gate.release(query)
        assert seen == asked
        await harness.empty("work")
    assert gate.most <= 4
