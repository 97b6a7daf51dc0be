"""How many queries of one gateway are in flight at once, and whose is next.

The queues of the stages are first in, first out over all tenants. They stay short because what does not fit into this
window waits here, in fair order over the tenants. So a worker still takes whatever query it has room for, and a query
pays for fairness once, not at each stage.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from prometheus_client import Gauge, Histogram

from services.gateway.settings import GatewaySettings
from shared.contracts.envelope import Lane, Query
from shared.contracts.problems import Problem, ProblemType
from shared.fairness import FairShare, FairSlots, TooManyWaitError
from shared.service.service import WindowStatus
from shared.telemetry.metrics import SECONDS

__all__ = ["QueryWindow"]

WAITING: Final = Gauge(
    "sluice_gateway_queries_waiting", "Queries that wait in this gateway for their tenant's turn.", ("lane",)
)
WAIT: Final = Histogram(
    "sluice_gateway_turn_wait_seconds",
    "Time for which a query waited in this gateway for its tenant's turn.",
    ("lane",),
    buckets=SECONDS,
)


class QueryWindow:
    """The places in flight of each lane. Of one tenant as many queries may wait as in a stage's queue."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._room = settings.query_window
        self._slots = {lane: self._make(settings) for lane in Lane}
        self._waits = {lane: WAIT.labels(lane.value) for lane in Lane}
        for lane, slots in self._slots.items():
            WAITING.labels(lane.value).set_function(partial(_waiting, slots))

    @asynccontextmanager
    async def place(self, query: Query) -> AsyncIterator[None]:
        """Wait for the tenant's turn; the query is in flight within the block. Raises Problem QUEUE_FULL."""
        slots = self._slots[query.lane]
        began = time.perf_counter()
        try:
            taken = await slots.acquire(query.tenant)
        except TooManyWaitError:
            raise _too_many(query) from None
        self._waits[query.lane].observe(time.perf_counter() - began)
        try:
            yield
        finally:
            slots.release(query.tenant, taken)

    @property
    def status(self) -> WindowStatus:
        return WindowStatus(
            in_flight={lane.value: slots.taken for lane, slots in self._slots.items()},
            waiting={lane.value: slots.waiting for lane, slots in self._slots.items()},
            room=self._room,
        )

    @staticmethod
    def _make(settings: GatewaySettings) -> FairSlots:
        share = FairShare(settings.query_window, spare=settings.query_spare, weights=settings.weights)
        return FairSlots(share, most_waiting=settings.queue_limit)


def _waiting(slots: FairSlots) -> float:
    return float(slots.waiting)


def _too_many(query: Query) -> Problem:
    return Problem(
        ProblemType.QUEUE_FULL,
        f"Too many queries of tenant '{query.tenant}' are waiting. Try again after a moment, or run more workers.",
        headers={"Retry-After": "1"},
        stage=query.stop.stage,
    )
