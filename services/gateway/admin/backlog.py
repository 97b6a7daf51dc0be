"""Queue lengths on the broker as metrics, read when a scraper asks, at most every other second.

Every gateway sees the same, so take the maximum over gateways, not the sum.
"""

import time
from typing import Final

import anyio
from nats.errors import Error as NatsError
from prometheus_client import Gauge

from services.gateway.admin import discovery
from shared.service.bus import Bus
from shared.stores.dead_letters import DeadLetters

__all__ = ["Backlog"]

FRESH: Final = 2.0
PATIENCE: Final = 1.0
"""Seconds that a scrape waits for the broker; after that it gets the values from before."""

STAGE: Final = ("stage", "variant", "lane")

WAITING = Gauge("sluice_queue_waiting", "Messages on a stage's queue that nobody works on yet.", STAGE)
IN_WORK = Gauge("sluice_queue_in_work", "Messages of a stage's queue that workers have, over all workers.", STAGE)
JOBS_WAITING = Gauge("sluice_jobs_waiting", "Jobs on the queue that nobody works on yet.")
JOBS_IN_WORK = Gauge("sluice_jobs_in_work", "Jobs that schedulers have.")
DEAD_LETTERS = Gauge("sluice_dead_letters_kept", "Dead letters that wait to be replayed or forgotten.")
BROKER_UP = Gauge("sluice_broker_up", "Whether the broker answered the last scrape's question: 1 or 0.")


class Backlog:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._at = 0.0

    async def update_metrics(self) -> None:
        """Bring the metrics up to date. Never raises."""
        if time.monotonic() - self._at < FRESH:
            return
        self._at = time.monotonic()
        up = False
        try:
            if self._bus.connected:
                with anyio.fail_after(PATIENCE):
                    await self._read()
                up = True
        except (NatsError, TimeoutError, OSError):
            pass
        finally:
            BROKER_UP.set(up)

    async def _read(self) -> None:
        queues = await discovery.queues(self._bus.jetstream)
        jobs = await discovery.jobs(self._bus.jetstream)
        letters = await DeadLetters(self._bus.client, self._bus.jetstream).count()
        # A deleted queue must not keep its last values.
        WAITING.clear()
        IN_WORK.clear()
        for queue in queues:
            labels = (queue.stage, queue.variant, queue.lane)
            WAITING.labels(*labels).set(queue.waiting)
            IN_WORK.labels(*labels).set(queue.in_flight)
        JOBS_WAITING.set(jobs.waiting)
        JOBS_IN_WORK.set(jobs.in_flight)
        DEAD_LETTERS.set(letters)
