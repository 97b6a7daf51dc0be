"""Where they share a few CPUs, lines of batches make way for interactive queries."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.gateway.queries.batch_throttle import BatchThrottle

pytestmark = pytest.mark.anyio

FOREVER = 3600.0


def throttle_of(*, yields: bool = True, lines: int = 2, longest_wait: float = FOREVER) -> BatchThrottle:
    """Nothing goes on just because time has passed, unless a test says so."""
    return BatchThrottle(yields=yields, lines=lines, longest_wait=longest_wait, calm=FOREVER)


class Lines:
    """Lines at work, each until it is ended."""

    def __init__(self, throttle: BatchThrottle, count: int) -> None:
        self.working = 0
        self._ends = asyncio.Semaphore(0)
        self._throttle = throttle
        self._tasks = [asyncio.create_task(self._line()) for _ in range(count)]

    async def _line(self) -> None:
        async with self._throttle.line():
            self.working += 1
            await self._ends.acquire()
        self.working -= 1

    async def settled(self) -> int:
        """How many are at work once all that can begin has begun."""
        for _ in range(20):
            await asyncio.sleep(0)
        return self.working

    async def end(self, count: int = 1) -> None:
        for _ in range(count):
            self._ends.release()
        await self.settled()

    async def finish(self) -> None:
        await self.end(len(self._tasks))
        async with asyncio.timeout(10):
            await asyncio.gather(*self._tasks)


async def test_lines_wait_while_a_query_is_in_flight_and_then_go_one_by_one() -> None:
    throttle = throttle_of()
    with throttle.query():
        lines = Lines(throttle, 3)
        assert await lines.settled() == 0
    assert await lines.settled() == 1
    await lines.end()
    assert await lines.settled() == 1
    await lines.finish()


async def test_while_no_queries_come_several_lines_are_at_work_and_never_more() -> None:
    throttle = throttle_of(lines=4)
    lines = Lines(throttle, 9)
    assert await lines.settled() == 4
    await lines.end()
    assert await lines.settled() == 4
    await lines.finish()


async def test_a_query_in_flight_lets_no_line_begin_in_the_place_of_one_that_ends() -> None:
    throttle = throttle_of(lines=2)
    lines = Lines(throttle, 4)
    assert await lines.settled() == 2
    with throttle.query():
        await lines.end(2)
        assert await lines.settled() == 0
    await lines.finish()


async def test_a_batch_never_stands_still_though_queries_are_always_in_flight() -> None:
    throttle = throttle_of(longest_wait=0.01)
    with throttle.query():
        lines = Lines(throttle, 3)
        await lines.end(3)
        await lines.finish()
    assert lines.working == 0


async def test_once_it_is_calm_several_go_on_again() -> None:
    throttle = throttle_of(lines=3)
    with throttle.query():
        pass
    lines = Lines(throttle, 3)
    assert await lines.settled() == 1
    throttle.calm = 0.0
    await lines.end()
    assert await lines.settled() == 2
    await lines.finish()


async def test_without_the_setting_nothing_waits() -> None:
    throttle = throttle_of(yields=False)
    async with AsyncExitStack() as stack:
        stack.enter_context(throttle.query())
        async with asyncio.timeout(10):
            for _ in range(50):
                await stack.enter_async_context(throttle.line())


def test_few_copies_wait_where_copies_wait() -> None:
    assert [throttle_of(lines=2).most(most) for most in (0, 3, 32)] == [0, 3, 4]
    assert throttle_of(yields=False).most(32) == 32
