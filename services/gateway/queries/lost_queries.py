"""Looks after queries in flight while the broker has troubles.

Those that no queue has taken are given up when the broker stays away. Others may be lost without any loss of the
gateway's connection, as queues are in the broker's memory: where too few nodes of a cluster have kept a queue, it is
made again, empty. The numbers of a stream that is made again are higher than any before.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from shared.contracts.problems import Problem
from shared.nats.subjects import QUERIES
from shared.service.bus import Bus

__all__ = ["InFlight", "look_after"]

log = logging.getLogger(__name__)

LOOK: Final = 1.0
"""Seconds between looks, while any query is in flight."""


class InFlight(Protocol):
    """A query in flight."""

    @property
    def sequence(self) -> int:
        """The number under which the stream holds it; 0 before it does."""

    def resubmit(self) -> None:
        """Submit it again, as it may be lost."""

    def abort(self, problem: Problem) -> None:
        """End it with a problem."""


async def look_after(
    bus: Bus, in_flight: Callable[[], Iterable[InFlight]], patience: float, unavailable: Callable[[], Problem]
) -> None:
    """Until cancelled, submit those again that were in a stream which is not there any more; and when the broker has
    been away for longer than `patience` seconds, end those that were never in any."""
    while True:
        await asyncio.sleep(LOOK)
        if bus.away > patience:
            for query in in_flight():
                if not query.sequence:
                    query.abort(unavailable())
        if not bus.client.is_connected or not any(True for _ in in_flight()):
            continue
        with suppress(NatsError, TimeoutError, OSError):
            first = await _first_sequence(bus)
            lost = [query for query in in_flight() if 0 < query.sequence < first]
            if lost:
                log.warning("the broker has lost %d queries in flight, which are submitted again", len(lost))
            for query in lost:
                query.resubmit()


async def _first_sequence(bus: Bus) -> int:
    """The lowest number that the stream may give. Raises nats errors."""
    try:
        info = await bus.jetstream.stream_info(QUERIES)
    except NotFoundError:
        await bus.topology.ensure_queries()
        info = await bus.jetstream.stream_info(QUERIES)
    return info.config.first_seq or 0
