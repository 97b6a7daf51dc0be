"""Dynamic batching: order, bounds, and whose error is whose."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.envelope import Lane
from shared.runtime.batching import Batcher

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Item:
    number: int
    cost: int
    lane: Lane


@dataclass
class Model:
    """Answers each item with its number, one batch per permission."""

    batches: list[list[Item]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    error: BaseException | None = None

    async def __call__(self, items: Sequence[Item]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        await self.go.acquire()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [item.number for item in items]


def batcher(model: Model, max_items: int = 8, max_cost: float = 100) -> Batcher[Item, int]:
    return Batcher(model, name="model", max_items=max_items, max_cost=max_cost, cost=lambda item: item.cost)


def item(number: int, lane: Lane = Lane.INTERACTIVE, cost: int = 1) -> Item:
    return Item(number, cost, lane)


async def submitted(model: Batcher[Item, int], *items: Item) -> list["asyncio.Task[int]"]:
    """Tasks that have submitted and wait."""
    tasks = [asyncio.create_task(model.submit(each, each.lane)) for each in items]
    await asyncio.sleep(0)
    return tasks


@given(
    costs=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(Lane)), min_size=1, max_size=60),
    max_items=st.integers(1, 10),
    max_cost=st.integers(0, 30),
)
def test_each_batch_is_in_order_and_within_its_bounds_and_each_item_gets_its_own_result(
    costs: list[tuple[int, Lane]], max_items: int, max_cost: int
) -> None:
    async def check() -> None:
        items = [Item(number, cost, lane) for number, (cost, lane) in enumerate(costs)]
        model = Model(go=asyncio.Semaphore(10_000))
        gathering = batcher(model, max_items, max_cost)
        tasks = await submitted(gathering, *items)
        async with gathering.running():
            assert await asyncio.gather(*tasks) == [each.number for each in items]
        order = [each for batch in model.batches for each in batch]
        assert order == sorted(items, key=lambda each: (each.lane is Lane.BATCH, each.number))
        for batch, after in zip(model.batches, [*model.batches[1:], None], strict=True):
            total = sum(each.cost for each in batch)
            assert len(batch) <= max_items
            assert total <= max_cost or len(batch) == 1
            if after:  # nothing that would have fitted was left for the next
                assert len(batch) == max_items or total + after[0].cost > max_cost

    asyncio.run(check())


async def test_what_comes_in_while_a_batch_runs_is_the_next_batch() -> None:
    model = Model()
    async with (gathering := batcher(model)).running():
        tasks = await submitted(gathering, item(0))
        await model.begun.wait()
        tasks += await submitted(gathering, item(1, Lane.BATCH), item(2), item(3))
        for _ in range(2):
            model.go.release()
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3]
    assert [[each.number for each in batch] for batch in model.batches] == [[0], [2, 3, 1]]


async def test_an_item_whose_submitter_was_cancelled_is_left_out() -> None:
    model = Model()
    gathering = batcher(model)
    tasks = await submitted(gathering, item(0), item(1), item(2))
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    async with gathering.running():
        model.go.release()
        assert await tasks[0] == 0
        assert await tasks[2] == 2
    assert [each.number for each in model.batches[0]] == [0, 2]


async def test_a_batch_whose_items_were_all_cancelled_is_not_run() -> None:
    model = Model()
    gathering = batcher(model)
    tasks = await submitted(gathering, item(0), item(1))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with gathering.running():
        model.go.release()
        assert await gathering.submit(item(2)) == 2
    assert len(model.batches) == 1


@pytest.mark.parametrize(
    "error", [ValueError("bad"), StopIteration("odd"), asyncio.CancelledError("from below")], ids=repr
)
async def test_an_error_reaches_those_of_its_batch_only_and_the_next_batch_runs(error: BaseException) -> None:
    model = Model(error=error)
    async with (gathering := batcher(model, max_items=2)).running():
        tasks = await submitted(gathering, *(item(number) for number in range(4)))
        for _ in range(2):
            model.go.release()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [True, True, False, False]
    assert results[2:] == [2, 3]


async def test_too_few_results_are_an_error_of_that_batch() -> None:
    calls: list[int] = []

    async def forgetful(items: Sequence[Item]) -> list[int]:
        calls.append(len(items))
        return [each.number for each in items][: 1 if len(calls) > 1 else 0]

    gathering: Batcher[Item, int] = Batcher(forgetful, name="m", max_items=1, max_cost=1, cost=lambda _: 1)
    async with gathering.running():
        with pytest.raises(RuntimeError, match="of 1 items gave 0 results"):
            await gathering.submit(item(0))
        assert await gathering.submit(item(1)) == 1


async def test_an_item_that_cannot_be_weighed_is_its_submitters_error() -> None:
    model = Model()

    def weigh(each: Item) -> float:
        return 1 / each.cost

    gathering: Batcher[Item, int] = Batcher(model, name="m", max_items=8, max_cost=8, cost=weigh)
    async with gathering.running():
        with pytest.raises(ZeroDivisionError):
            await gathering.submit(item(0, cost=0))
        model.go.release()
        assert await gathering.submit(item(1)) == 1


async def test_a_panic_of_a_library_is_an_error_of_its_batch() -> None:
    class PanicError(BaseException):
        """As libraries in Rust raise it."""

    model = Model(error=PanicError("index out of bounds"))
    model.go.release()
    batches = batcher(model)
    async with batches.running():
        with pytest.raises(RuntimeError, match="index out of bounds"):
            await batches.submit(item(0))
        model.go.release()
        assert await batches.submit(item(1)) == 1


async def test_stopping_leaves_nobody_waiting() -> None:
    model = Model()
    async with (gathering := batcher(model, max_items=1)).running():
        tasks = await submitted(gathering, item(0), item(1))
        await model.begun.wait()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    with pytest.raises(RuntimeError, match="has stopped"):
        await gathering.submit(item(2))
