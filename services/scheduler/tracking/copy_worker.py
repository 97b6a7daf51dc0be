"""Takes messages off a stream of the broker and has MLflow get copies of what they are about.

All schedulers share one consumer, so a message is worked on by one of them, and by another one where that dies. Where
MLflow is away, messages wait on the broker; jobs and requests never wait for it.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Final, Generic, TypeVar

from nats.errors import Error as NatsError
from nats.js.errors import APIError
from prometheus_client import Counter, Gauge, Histogram

from services.scheduler.tracking.mlflow_client import MLflowError, MLflowRefusedError, MLflowUnavailableError
from services.scheduler.tracking.settings import TrackingSettings
from shared.runtime.delivery import Delivery
from shared.runtime.pull import PullConsumer
from shared.runtime.worker import StageStatus
from shared.service.bus import Bus
from shared.tasks import background

__all__ = ["CopyWorker"]

Item = TypeVar("Item")

log = logging.getLogger(__name__)

ROOM: Final = 4
"""Messages in work at once."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a server that is away is asked again: twice as long each time."""

LONGEST_REST: Final = 300.0
"""Seconds before a message is tried again that failed while the server answers others."""

LOOK: Final = 15.0

EVENTS = Counter(
    "sluice_mlflow_events_total",
    "Events of experiment runs and changes of releases by what became of their copy: copied, failed (it is tried "
    "again), refused or given_up.",
    ("outcome",),
)
DELAY = Histogram(
    "sluice_mlflow_delay_seconds",
    "Time from an event of an experiment run, or a change of a release, to its copy in MLflow.",
    buckets=(0.1, 0.5, 1, 5, 30, 300, 3600, 86400),
)


class CopyWorker(ABC, Generic[Item]):
    """A `shared.service.service.Worker`. `waiting` shows how many messages the consumer has before it."""

    def __init__(
        self, bus: Bus, settings: TrackingSettings, *, stream: str, consumer: str, waiting: Gauge, ack_wait: float
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._stream = stream
        self._name = consumer
        self._waiting = waiting
        self._tenants = [pattern.strip() for pattern in settings.mlflow_tenants.split(",") if pattern.strip()]
        self._pause = 0.0
        self._stopping = asyncio.Event()
        self._consumer = PullConsumer(
            bus.client,
            stream=stream,
            consumer=consumer,
            room=lambda: ROOM,
            handle=self._take,
            repair=self._repair,
            ack_wait=ack_wait,
        )

    @abstractmethod
    async def _repair(self) -> None:
        """Make the consumer where it is not there."""

    @abstractmethod
    def _item(self, delivery: Delivery) -> Item | None:
        """What a message is about; None where there is nothing to copy."""

    @abstractmethod
    def _named(self, item: Item) -> str:
        """What log lines call it, such as `the run 1a2b`."""

    @abstractmethod
    async def _copy(self, item: Item) -> float | None:
        """Bring the copy up to date. Returns after how many seconds the message comes again; None: it is done with.
        Raises MLflowError."""

    @abstractmethod
    async def _is_final(self, item: Item) -> bool:
        """Whether nothing comes after it. Otherwise it is tried for as long as that takes."""

    @property
    def pulling(self) -> bool:
        return self._consumer.pulling

    @property
    def statuses(self) -> list[StageStatus]:
        return []

    async def run(self) -> None:
        await self._repair()
        async with background(self._watch()):
            await self._consumer.run()

    async def probe(self) -> None:
        """The messages are there. That MLflow is away is no reason to restart a scheduler."""
        await self._bus.jetstream.stream_info(self._stream)

    async def reset(self) -> None:
        await self._consumer.reset()

    async def drain(self, grace: float) -> None:
        self._stopping.set()
        await self._consumer.drain(grace)

    def _copies(self, tenant: str) -> bool:
        """Whether copies are made of what this tenant has."""
        return any(fnmatchcase(tenant, pattern) for pattern in self._tenants)

    async def _take(self, delivery: Delivery) -> None:
        if (item := self._item(delivery)) is None:
            await delivery.ack()
            return
        while not self._stopping.is_set():
            try:
                again = await self._copy(item)
            except MLflowUnavailableError as error:
                if await self._given_up(item, delivery, error):
                    return
                await self._wait(error)
            except MLflowRefusedError as error:
                log.warning("MLflow does not take %s: %s", self._named(item), error)
                EVENTS.labels("refused").inc()
                await delivery.ack()
                return
            except MLflowError as error:
                if not await self._given_up(item, delivery, error):
                    EVENTS.labels("failed").inc()
                    log.warning("%s is copied to MLflow later: %s", self._named(item), error)
                    await delivery.nak(min(LONGEST_REST, 2.0 ** min(delivery.deliveries, 10)))
                return
            else:
                self._answered()
                if again is not None:
                    await delivery.nak(again)
                    return
                EVENTS.labels("copied").inc()
                DELAY.observe(max(0.0, time.time() - delivery.stored_at))
                await delivery.ack()
                return

    async def _given_up(self, item: Item, delivery: Delivery, error: MLflowError) -> bool:
        """Whether a message has been tried for long enough."""
        if time.time() - delivery.stored_at < self._settings.mlflow_retry_seconds:
            return False
        if not await self._is_final(item):
            return False
        log.error("%s is not copied to MLflow: %s", self._named(item), error)
        EVENTS.labels("given_up").inc()
        await delivery.ack()
        return True

    async def _wait(self, error: MLflowError) -> None:
        """Rest before the server is asked again; say so once until it answers."""
        if not self._pause:
            log.warning("MLflow at %s is away, copies are made later: %s", self._settings.mlflow_uri, error)
            EVENTS.labels("failed").inc()
        self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, self._pause * 2))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._pause)

    def _answered(self) -> None:
        if self._pause:
            log.info("MLflow at %s answers again", self._settings.mlflow_uri)
        self._pause = 0.0

    async def _watch(self) -> None:
        while True:
            with suppress(NatsError, APIError, TimeoutError):
                info = await self._bus.jetstream.consumer_info(self._stream, self._name)
                self._waiting.set((info.num_pending or 0) + (info.num_ack_pending or 0))
            await asyncio.sleep(LOOK)
