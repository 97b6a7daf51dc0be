"""Promise 2: work past its deadline is dropped, and a cancel stops work in flight."""

import asyncio
import time
from contextlib import suppress

import pytest

from shared.contracts.envelope import Query
from shared.contracts.events import Progress
from shared.runtime.options import RuntimeOptions
from shared.runtime.stage import Context
from tests.harness.stage_harness import PATIENCE, Gate, StageHarness, outcomes

pytestmark = pytest.mark.anyio


async def test_a_query_whose_deadline_passed_in_the_queue_is_dropped_without_being_worked_on(
    harness: StageHarness,
) -> None:
    gate = Gate()
    before = outcomes("late", "expired")
    await harness.make_queue("late")
    late = await harness.submit(harness.query("late", timeout=-1.0))
    async with harness.working(gate, "late"):
        await harness.empty("late")
        assert outcomes("late", "expired") == before + 1
        in_time = await harness.submit(harness.query("late"))
        assert (await gate.next()).id == in_time.id != late.id


async def test_work_is_stopped_when_its_deadline_passes(harness: StageHarness) -> None:
    gate = Gate()
    before = outcomes("slow", "expired")
    async with harness.working(gate, "slow"):
        query = await harness.submit(harness.query("slow", timeout=0.3))
        await gate.next()
        async with asyncio.timeout(PATIENCE):  # the work itself would never end
            assert (await gate.stopped.get()).id == query.id
        assert time.time() >= query.deadline
        await harness.empty("slow")
    assert outcomes("slow", "expired") == before + 1


async def test_a_cancel_stops_work_in_flight(harness: StageHarness) -> None:
    gate = Gate()
    before = outcomes("idle", "cancelled")
    async with harness.working(gate, "idle") as worker:
        cancelled, other = harness.query("idle"), harness.query("idle")
        await harness.submit(cancelled)
        await harness.submit(other)
        await gate.next()
        await gate.next()
        worker.cancel(cancelled.id, time.time())
        async with asyncio.timeout(PATIENCE):
            assert (await gate.stopped.get()).id == cancelled.id
        assert list(gate.working) == [other.id]
        gate.open()
        await harness.empty("idle")
    assert outcomes("idle", "cancelled") == before + 1


async def test_a_cancel_that_comes_before_its_query_stops_it_too(harness: StageHarness) -> None:
    gate = Gate()
    before = outcomes("early", "cancelled")
    async with harness.working(gate, "early") as worker:
        query = harness.query("early")
        worker.cancel(query.id, time.time())
        await harness.submit(query)
        await harness.empty("early")
        assert gate.started.empty()
    assert outcomes("early", "cancelled") == before + 1


async def test_a_worker_remembers_a_bounded_number_of_cancels(harness: StageHarness) -> None:
    gate = Gate()
    async with harness.working(gate, runtime=RuntimeOptions(remembered_cancels=10)) as worker:
        for number in range(100):
            worker.cancel(f"q{number}", time.time())
        assert len(worker._cancelled) == 10


async def test_a_cancelled_query_that_waits_for_room_ahead_is_not_forwarded(harness: StageHarness) -> None:
    """The stage is done and its result waits for room in the next queue when the cancel comes."""

    async def quick(query: Query, context: Context) -> Query:
        return query

    async with harness.working(quick, "first") as worker:
        stream = (await harness.jetstream.stream_info("QUERIES")).config
        await harness.jetstream.update_stream(stream, max_msgs_per_subject=1)
        await harness.submit(harness.query("second"))
        query = harness.query("first", "second")
        async with harness.replies_to(query) as mailbox:
            assert isinstance(await mailbox.receive(PATIENCE), Progress)
            worker.cancel(query.id, time.time())
            await harness.empty("first")
        assert outcomes("first", "cancelled") == 1
        assert await harness.stored("query.second.>") == 1


async def test_work_that_swallows_its_cancellation_is_settled_all_the_same(harness: StageHarness) -> None:
    started = asyncio.Event()

    async def stubborn(query: Query, context: Context) -> Query:
        started.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return query

    async with harness.working(stubborn, "stubborn", room=1) as worker:
        query = await harness.submit(harness.query("stubborn"))
        await started.wait()
        worker.cancel(query.id, time.time())
        await harness.empty("stubborn")


async def test_work_that_was_cancelled_from_below_counts_as_failed_and_is_tried_again(harness: StageHarness) -> None:
    tries: list[str] = []

    async def awaiting_a_cancelled_future(query: Query, context: Context) -> Query:
        tries.append(query.id)
        if len(tries) == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return query

    async with harness.working(awaiting_a_cancelled_future, "below") as worker:
        await harness.ask(harness.query("below"))
        assert len(tries) == 2
        assert worker.pulling
    assert outcomes("below", "retried") == 1
