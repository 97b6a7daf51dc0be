"""The pool of what takes long to open: sharing, its bound, the line, failures, and its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.embedder.pool.pool import Pool
from shared.contracts.problems import Problem, ProblemType

pytestmark = pytest.mark.anyio


class Things:
    """What is opened; each opening waits until the test lets it go on."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.now = 0
        self.most = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.fails: dict[str, Exception] = {}
        self.time = 0.0

    def pool(self, most: int) -> Pool[str, str]:
        return Pool(self.open, most=most, clock=lambda: self.time)

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[str]:
        self.opened.append(key)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if key in self.gates:
                await self.gates[key].wait()
            if key in self.fails:
                raise self.fails[key]
            yield f"<{key}>"
        finally:
            self.now -= 1
            self.closed.append(key)


@pytest.fixture
def things() -> Things:
    return Things()


async def turns() -> None:
    """Let every task go on as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_many_want_at_once_is_opened_once(things: Things) -> None:
    things.gates["a"] = asyncio.Event()
    async with things.pool(2).running() as pool:

        async def use() -> str:
            async with pool.use("a") as value:
                return value

        users = [asyncio.create_task(use()) for _ in range(20)]
        await turns()
        assert not pool.is_open("a")
        things.gates["a"].set()
        assert await asyncio.gather(*users) == ["<a>"] * 20
        assert pool.is_open("a")
    assert (things.opened, things.closed) == (["a"], ["a"])


async def test_the_one_used_longest_ago_leaves_for_another(things: Things) -> None:
    async with things.pool(2).running() as pool:
        for key in ("a", "b", "a", "c"):
            async with pool.use(key):
                pass
        assert things.closed == ["b"]
        assert (pool.is_open("a"), pool.is_open("b"), pool.is_open("c")) == (True, False, True)
    assert things.most == 2


async def test_one_in_use_stays_open_until_its_last_user_is_done(things: Things) -> None:
    async with things.pool(1).running() as pool:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(pool.use("a"))
            other = asyncio.create_task(stack_of(pool, "b"))
            await turns()
            assert (things.opened, things.closed) == (["a"], [])
        await other
        assert (things.opened, things.closed) == (["a", "b"], ["a"])
    assert things.most == 1


async def stack_of(pool: Pool[str, str], key: str) -> None:
    async with pool.use(key):
        pass


async def test_who_waits_comes_up_however_busy_the_open_one_is(things: Things) -> None:
    async with things.pool(1).running() as pool:
        done = asyncio.Event()

        async def keep_busy() -> None:
            while not done.is_set():
                async with pool.use("a"):
                    await asyncio.sleep(0)

        busy = [asyncio.create_task(keep_busy()) for _ in range(5)]
        await turns()
        async with asyncio.timeout(10), pool.use("b") as value:
            assert value == "<b>"
        done.set()
        await asyncio.gather(*busy)
    assert things.most == 1


async def test_what_nobody_waits_for_any_more_pushes_nothing_out(things: Things) -> None:
    async with things.pool(1).running() as pool, pool.use("a"):
        waiting = asyncio.create_task(stack_of(pool, "b"))
        await turns()
        waiting.cancel()
        await asyncio.wait([waiting])
        await turns()
    assert things.opened == ["a"]


async def test_a_failure_is_told_to_all_and_not_tried_again_for_a_while(things: Things) -> None:
    things.fails["a"] = Problem(ProblemType.MODEL_UNAVAILABLE, "It is broken.")
    async with things.pool(1).running() as pool:
        found = await asyncio.gather(*(stack_of(pool, "a") for _ in range(5)), return_exceptions=True)
        assert {str(one) for one in found} == {str(things.fails["a"])}
        with pytest.raises(Problem, match="It is broken"):
            await stack_of(pool, "a")
        assert things.opened == ["a"]
        await stack_of(pool, "b")  # the others are open to all
        for pause in (1, 2, 4, 8, 16, 32, 60, 60):
            things.time += pause
            with pytest.raises(Problem):
                await stack_of(pool, "a")
            with pytest.raises(Problem):
                await stack_of(pool, "a")
        assert things.opened.count("a") == 9
        del things.fails["a"]
        things.time += 60
        await stack_of(pool, "a")
    assert things.most == 1


async def test_a_broker_that_is_away_says_nothing_of_a_model(things: Things) -> None:
    things.fails["a"] = Problem(ProblemType.BROKER_UNAVAILABLE, "It is away.")
    async with things.pool(1).running() as pool:
        for _ in range(3):
            with pytest.raises(Problem):
                await stack_of(pool, "a")
    assert things.opened == ["a"] * 3


async def test_an_unexpected_error_is_a_problem_and_the_pool_goes_on(things: Things) -> None:
    things.fails["a"] = ValueError("odd")
    async with things.pool(1).running() as pool:
        with pytest.raises(Problem, match="ValueError: odd"):
            await stack_of(pool, "a")
        await stack_of(pool, "b")


async def test_at_its_end_all_are_closed_and_who_waits_is_told(things: Things) -> None:
    things.gates["b"] = asyncio.Event()
    async with things.pool(2).running() as pool:
        await stack_of(pool, "a")
        waiting = asyncio.create_task(stack_of(pool, "b"))
        await turns()
    with pytest.raises(Problem, match="stops"):
        await waiting
    assert sorted(things.closed) == ["a", "b"]
    with pytest.raises(Problem, match="stops"):
        await stack_of(pool, "a")
