"""The state of the stages' queues, as the problems of late queries tell it."""

import time
from typing import Final

from nats.js.errors import NotFoundError

from services.gateway.queries.progress import QueueState
from shared.contracts.envelope import Query, Stop
from shared.nats.subjects import QUERIES, StageQueue
from shared.service.bus import Bus

__all__ = ["QueueStates"]

TTL: Final = 1.0
LOOKUP_TIMEOUT: Final = 0.5


class QueueStates:
    """The states of queues, at most a second old."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._states: dict[str, tuple[float, QueueState | None]] = {}

    async def of(self, stop: Stop, query: Query) -> QueueState | None:
        """The state of the queue of a stop; None if no worker has made it yet. Raises nats errors."""
        name = StageQueue(stage=stop.stage, variant=stop.variant, lane=query.lane).consumer
        now = time.monotonic()
        read_at, state = self._states.get(name, (0.0, None))
        if now - read_at > TTL:
            try:
                info = await self._bus.jetstream.consumer_info(QUERIES, name, timeout=LOOKUP_TIMEOUT)
            except NotFoundError:
                state = None
            else:
                state = QueueState(
                    waiting=info.num_pending or 0, in_work=info.num_ack_pending or 0, wanted=bool(info.num_waiting)
                )
            self._states[name] = now, state
        return state
