"""Handles due timers of the broker: retries return to the job queue, and schedules' ticks become jobs."""

from collections.abc import Awaitable, Callable, Mapping

from shared.nats.subjects import DUE, TIMERS
from shared.runtime.delivery import Delivery
from shared.runtime.pull import PullConsumer
from shared.runtime.worker import StageStatus
from shared.service.bus import Bus

__all__ = ["TimerWorker"]

ROOM = 32


class TimerWorker:
    """A `shared.service.service.Worker`: hands what is due on `due.<what>.>` to the handler of that name.

    A handler that raises is called again, with the same message.
    """

    def __init__(
        self, bus: Bus, handlers: Mapping[str, Callable[[Delivery], Awaitable[None]]], *, ack_wait: float
    ) -> None:
        self._bus = bus
        self._handlers = handlers
        self._consumer = PullConsumer(
            bus.client,
            stream=TIMERS,
            consumer=DUE,
            room=lambda: ROOM,
            handle=self._take,
            repair=bus.topology.ensure,
            ack_wait=ack_wait,
        )

    @property
    def pulling(self) -> bool:
        return self._consumer.pulling

    @property
    def statuses(self) -> list[StageStatus]:
        return []

    async def run(self) -> None:
        await self._consumer.run()

    async def probe(self) -> None:
        """The timers are there and answer."""
        await self._bus.jetstream.consumer_info(TIMERS, DUE)

    async def reset(self) -> None:
        await self._consumer.reset()

    async def drain(self, grace: float) -> None:
        await self._consumer.drain(grace)

    async def _take(self, delivery: Delivery) -> None:
        handler = self._handlers.get(delivery.subject.split(".")[1])
        if handler is not None:
            await handler(delivery)
        await delivery.ack()
