"""Steps of a fallback or branch to which no worker comes in time.

A worker keeps to the time itself, in work and when it takes a query that has waited too long. Where none takes it, as
none of that stage runs, whoever reads the answer steps in: the gateway. The message has the id that a worker would give
it, so it is harmless if both do.
"""

import asyncio
import logging
import time
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from shared.contracts.envelope import Hop, Query
from shared.contracts.events import Failed, Waiting
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import QUERIES
from shared.runtime.onward import Onward
from shared.runtime.replies import Mailbox
from shared.service.bus import Bus

__all__ = ["LateSteps"]

log = logging.getLogger(__name__)

GRACE: Final = 0.5
"""Seconds that a worker has to fall back itself before the gateway does."""


class LateSteps:
    """The steps of one query that are timed: the latest that it has got to, in each of its branches."""

    def __init__(self, bus: Bus, onward: Onward, mailbox: Mailbox) -> None:
        self._bus = bus
        self._onward = onward
        self._mailbox = mailbox
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, waiting: Waiting) -> None:
        if (earlier := self._tasks.get(waiting.branch)) is not None:
            earlier.cancel()
        self._tasks[waiting.branch] = asyncio.create_task(self._step_in(waiting))

    def forget(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _step_in(self, waiting: Waiting) -> None:
        await asyncio.sleep(max(0.0, waiting.until - time.time()) + GRACE)
        try:
            message = await self._bus.jetstream.get_msg(QUERIES, seq=waiting.sequence)
            await self._fall_back(Query.decode(message.data or b""))
            await self._bus.jetstream.delete_msg(QUERIES, waiting.sequence)
        except NotFoundError:
            return  # a worker is done with it
        except (NatsError, TimeoutError, OSError, Problem) as error:
            # At its deadline the query is told what is the matter.
            log.warning("cannot take a query to the other steps of its pipeline: %r", error)

    async def _fall_back(self, query: Query) -> None:
        """Raises Problem BROKER_UNAVAILABLE, nats errors."""
        stop = query.stop
        origin = {"attempt": query.attempt, "stage": stop.stage, "visit": len(query.trail), "branch": query.branch}
        detail = f"No worker of stage '{stop.stage}' was done with the query in the time that the pipeline gives it."
        problem = Problem(ProblemType.DEADLINE_EXCEEDED, detail)
        hop = Hop(stage=stop.stage, variant=stop.variant, worker="", waited_ms=0.0, worked_ms=0.0)
        left = await self._onward.fall_back(query, problem, hop, self._mailbox, origin)
        if left is not None:
            self._mailbox.put(Failed(problem=left.details, trail=query.trail, **origin))
