"""Dynamic batching without waiting: whatever has come in while the last batch ran is the next batch."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context

from shared.contracts.envelope import Lane
from shared.panics import is_panic
from shared.tasks import background
from shared.telemetry.metrics import BATCH_ITEMS, BATCH_TIME
from shared.telemetry.tracing import tracer

__all__ = ["Batcher"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry(Generic[T, R]):
    item: T
    cost: float
    result: asyncio.Future[R]
    context: trace.SpanContext


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
        self._waiting: list[tuple[bool, int, _Entry[T, R]]] = []
        self._arrived = asyncio.Event()
        self._closed = False

    async def submit(self, item: T, lane: Lane = Lane.INTERACTIVE) -> R:
        """The item's result. Raises what `run` raised for its batch, or RuntimeError once the batcher has stopped."""
        if self._closed:
            raise RuntimeError(f"the batcher '{self._name}' has stopped")
        entry: _Entry[T, R] = _Entry(
            item=item,
            cost=self._cost(item),
            result=asyncio.get_running_loop().create_future(),
            context=trace.get_current_span().get_span_context(),
        )
        heapq.heappush(self._waiting, (lane is Lane.BATCH, next(self._order), entry))
        self._arrived.set()
        return await entry.result

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work on batches for as long as the block runs. What is unfinished then is cancelled."""
        self._closed = False
        try:
            async with background(self._work()):
                yield
        finally:
            self._closed = True
            for _, _, entry in self._waiting:
                entry.result.cancel()
            self._waiting.clear()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._take()
            if batch:
                await self._finish(batch)

    async def _finish(self, batch: list[_Entry[T, R]]) -> None:
        try:
            results = await self._call(batch)
        except asyncio.CancelledError:
            for entry in batch:
                entry.result.cancel()
            raise
        except Exception as error:  # noqa: BLE001  (it belongs to those who submitted)
            for entry in batch:
                if not entry.result.done():
                    entry.result.set_exception(error)
            return
        for entry, result in zip(batch, results, strict=True):
            if not entry.result.done():
                entry.result.set_result(result)

    async def _call(self, batch: list[_Entry[T, R]]) -> Sequence[R]:
        """The results of a batch, one for each item. Every error is an Exception, unless the batcher is cancelled."""
        task = asyncio.current_task()
        BATCH_ITEMS.labels(self._name).observe(len(batch))
        try:
            with self._span(batch), BATCH_TIME.labels(self._name).time():
                results = await self._run([entry.item for entry in batch])
        except BaseException as error:
            broken_off = isinstance(error, asyncio.CancelledError) and (task is None or not task.cancelling())
            if not (broken_off or isinstance(error, StopIteration) or is_panic(error)):
                raise
            # None of these fits into a future as it is.
            raise RuntimeError(f"the batch '{self._name}' was broken off: {error!r}") from error
        if len(results) != len(batch):
            raise RuntimeError(f"the batch '{self._name}' of {len(batch)} items gave {len(results)} results")
        return results

    def _span(self, batch: list[_Entry[T, R]]) -> AbstractContextManager[trace.Span]:
        """A part of the items' trace, if it is one for all; else a trace of its own that links to each of them."""
        made_for = list({e.context.span_id: e.context for e in batch if e.context.is_valid}.values())
        first = next(iter(made_for), trace.INVALID_SPAN_CONTEXT)
        parent, linked = Context(), made_for
        if all(context.trace_id == first.trace_id for context in made_for):
            parent, linked = trace.set_span_in_context(trace.NonRecordingSpan(first), parent), linked[1:]
        return tracer.start_as_current_span(
            f"batch {self._name}",
            context=parent,
            links=[trace.Link(context) for context in linked],
            attributes={"sluice.batch.items": len(batch)},
        )

    def _take(self) -> list[_Entry[T, R]]:
        batch: list[_Entry[T, R]] = []
        cost = 0.0
        while self._waiting and len(batch) < self._max_items:
            entry = self._waiting[0][2]
            if not entry.result.done():
                cost += entry.cost
                if batch and cost > self._max_cost:
                    break
                batch.append(entry)
            heapq.heappop(self._waiting)
        if not self._waiting:
            self._arrived.clear()
        return batch
