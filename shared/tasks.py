"""Work beside other work, with an end that is certain."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

__all__ = ["TaskSet", "background", "for_each", "task_group"]

AGAIN: Final = 0.05

Item = TypeVar("Item")
Result = TypeVar("Result")


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` for as long as the block runs, then cancel it and wait until it has ended.

    It is cancelled again until it ends: before Python 3.12 `asyncio.wait_for`, and so any library that uses it, drops a
    cancellation that meets the arrival of its result. An error of `work` is raised at the end of the block.
    """
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=AGAIN)
    if not task.cancelled():
        task.result()


class TaskSet:
    """Short tasks that their starter does not wait for."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        # The event loop itself holds no task.
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def ended(self) -> None:
        """Wait for those that have been started. Raises what one of them raised."""
        await asyncio.gather(*self._running)


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first error of its tasks itself, not in a group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def for_each(
    items: Iterable[Item], function: Callable[[Item], Awaitable[Result]], *, at_once: int
) -> list[Result]:
    """The results for items, in their order, of which so many are in work at once. Raises the first error, and the
    others go on."""
    room = asyncio.Semaphore(at_once)

    async def run(item: Item) -> Result:
        async with room:
            return await function(item)

    return await asyncio.gather(*map(run, items))
