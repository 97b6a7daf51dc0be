"""Queue lengths on the broker, for Prometheus and for autoscalers: read when one asks, at most every other second.

Every gateway sees the same, so take the maximum over gateways, not the sum.
"""

import time
from typing import Final

import anyio
from nats.errors import Error as NatsError
from prometheus_client import Gauge
from starlette.requests import Request
from starlette.responses import JSONResponse

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
        self._lengths: dict[str, dict[str, dict[str, int]]] | None = None

    async def page(self, _: Request) -> JSONResponse:
        """The waiting and in-progress messages of each queue, by stage, variant and lane; 503 where the broker does not
        tell.

        A queue that is not there is left out: an autoscaler must not take what is unknown for nothing, or for much.
        """
        await self.update_metrics()
        return JSONResponse(self._lengths or {}, status_code=503 if self._lengths is None else 200)

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
            if not up:
                self._lengths = None

    async def _read(self) -> None:
        queues = await discovery.queues(self._bus.jetstream)
        jobs = await discovery.jobs(self._bus.jetstream)
        letters = await DeadLetters(self._bus.client, self._bus.jetstream).count()
        # A deleted queue must not keep its last values.
        WAITING.clear()
        IN_WORK.clear()
        lengths: dict[str, dict[str, dict[str, int]]] = {}
        for queue in queues:
            labels = (queue.stage, queue.variant, queue.lane)
            WAITING.labels(*labels).set(queue.waiting)
            IN_WORK.labels(*labels).set(queue.in_flight)
            variants = lengths.setdefault(queue.stage, {})
            variants.setdefault(queue.variant, {})[queue.lane] = queue.waiting + queue.in_flight
        self._lengths = lengths
        JOBS_WAITING.set(jobs.waiting)
        JOBS_IN_WORK.set(jobs.in_flight)
        DEAD_LETTERS.set(letters)
