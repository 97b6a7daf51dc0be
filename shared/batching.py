"""Dynamic batching without waiting: whatever has come in while the last batch ran is the next batch."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Generic, TypeVar

from opentelemetry import trace

from shared.envelope import Lane
from shared.telemetry import tracer

__all__ = ["Batcher"]

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Gathers concurrent `submit`s into calls of `run`, one call at a time.

    A batch takes interactive items first, then the batch lane's, each in order of arrival, up to `max_items` items and
    `max_cost` of their summed `cost`; an item that alone costs more goes alone. An item whose submitter is cancelled
    before its batch starts is left out. The caller's room bounds how many items wait.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        name: str,
        max_items: int,
        max_cost: float,
        cost: Callable[[T], float],
    ) -> None:
        self._run = run
        self._name = name
        self._max_items = max_items
        self._max_cost = max_cost
        self._cost = cost
        self._order = count()
        self._waiting: list[tuple[bool, int, T, asyncio.Future[R], trace.SpanContext]] = []
        self._arrived = asyncio.Event()

    async def submit(self, item: T, lane: Lane = Lane.INTERACTIVE) -> R:
        """The item's result. Raises what `run` raised for its batch."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        context = trace.get_current_span().get_span_context()
        heapq.heappush(self._waiting, (lane is Lane.BATCH, next(self._order), item, future, context))
        self._arrived.set()
        return await future

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work on batches for as long as the block runs."""
        worker = asyncio.create_task(self._work())
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            for *_, future, _context in self._waiting:
                future.cancel()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._take()
            if batch:
                await self._finish(batch)

    async def _finish(self, batch: list[tuple[T, asyncio.Future[R], trace.SpanContext]]) -> None:
        links = [trace.Link(context) for _, _, context in batch if context.is_valid]
        attributes = {"sluice.batch.size": len(batch)}
        try:
            with tracer.start_as_current_span(f"{self._name} batch", links=links, attributes=attributes):
                results = await self._run([item for item, _, _ in batch])
        except Exception as error:  # noqa: BLE001  (it belongs to those who submitted)
            for _, future, _context in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future, _context), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _take(self) -> list[tuple[T, asyncio.Future[R], trace.SpanContext]]:
        batch: list[tuple[T, asyncio.Future[R], trace.SpanContext]] = []
        cost = 0.0
        while self._waiting and len(batch) < self._max_items:
            _, _, item, future, context = self._waiting[0]
            if not future.done():
                cost += self._cost(item)
                if batch and cost > self._max_cost:
                    break
                batch.append((item, future, context))
            heapq.heappop(self._waiting)
        if not self._waiting:
            self._arrived.clear()
        return batch
