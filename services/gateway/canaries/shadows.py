"""Copies of questions for a version in the shadow of the live one: their answers are counted, and nobody sees them.

A copy is a query of its own on the batch lane, so no reader waits for it. It asks the other version in the same words,
with the same options and permissions.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.abc
from nats.errors import Error as NatsError
from opentelemetry import trace
from opentelemetry.context import Context
from prometheus_client import Counter

from services.gateway.canaries.recorder import CanaryRecorder
from services.gateway.queries.assembler import AnswerAssembler, Ended, PartLostError
from services.gateway.queries.batch_throttle import BatchThrottle
from services.gateway.queries.copies import shadow_of
from services.gateway.queries.session import QuerySession
from shared.contracts.envelope import Query
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.onward import Onward
from shared.runtime.options import DEFAULTS
from shared.runtime.replies import ReplyRouter
from shared.runtime.requester import cancelled_unless
from shared.service.bus import Bus
from shared.telemetry.tracing import tracer

__all__ = ["VersionShadows"]

log = logging.getLogger(__name__)

COPIES: Final = Counter(
    "sluice_canary_copies_total",
    "Copies of questions for a version in the shadow of the live one, by how they ended: answered, the code of a "
    "problem, or skipped for want of room.",
    ("outcome",),
)

MOST_PLANNED: Final = 1000
"""Questions with a copy that are planned and not submitted yet; the copies of more are left out."""

Plan = Callable[[], Query]


@dataclass(frozen=True, slots=True)
class _Way:
    """How copies are sent while the gateway runs."""

    onward: Onward
    replies: ReplyRouter
    tasks: anyio.abc.TaskGroup


class VersionShadows:
    """The copies of this gateway, `most` at once, or fewer where the throttle has them wait; the rest are skipped. The
    recorder counts how they end."""

    def __init__(self, recorder: CanaryRecorder, instance: str, throttle: BatchThrottle, most: int) -> None:
        self._recorder = recorder
        self._instance = instance
        self._throttle = throttle
        self._most = throttle.most(most)
        self._planned: OrderedDict[str, tuple[float, Plan]] = OrderedDict()
        self._way: _Way | None = None
        self._in_flight = 0

    def plan(self, query_id: str, copy: Plan, timeout: float) -> None:
        """Have `copy` write the copy of a question once that is submitted, within `timeout` seconds."""
        self._planned[query_id] = time.monotonic() + timeout, copy
        if len(self._planned) > MOST_PLANNED:
            self._planned.popitem(last=False)

    @asynccontextmanager
    async def running(self, bus: Bus, replies: ReplyRouter) -> AsyncIterator[None]:
        """Copies are sent for as long as the block runs. Those in flight at its end are dropped."""
        async with anyio.create_task_group() as tasks:
            self._way = _Way(Onward(bus.jetstream, bus.topology, DEFAULTS, room=0), replies, tasks)
            try:
                yield
            finally:
                self._way = None
                tasks.cancel_scope.cancel()

    @contextmanager
    def shadow(self, session: QuerySession) -> Iterator[None]:
        """Send the copy of a question that has just been submitted, if it has one; the block is the rest of its life.

        A copy goes on when its question has ended: unlike that of a variant it is compared with all questions.
        """
        planned = self._take(session.query.id)
        if planned is not None and self._way is not None:
            if self._in_flight < self._most:
                self._in_flight += 1
                live = trace.get_current_span().get_span_context()
                self._way.tasks.start_soon(self._send, self._way, session.query, planned, live)
            else:
                COPIES.labels("skipped").inc()
        yield

    def _take(self, query_id: str) -> Plan | None:
        """What writes the copy of this question. Those of questions that were refused go once their time is over."""
        _, planned = self._planned.pop(query_id, (0.0, None))
        while self._planned and next(iter(self._planned.values()))[0] < time.monotonic():
            self._planned.popitem(last=False)
        return planned

    async def _send(self, way: _Way, live: Query, planned: Plan, context: trace.SpanContext) -> None:
        links = [trace.Link(context)] if context.is_valid else []
        outcome = ProblemType.DEADLINE_EXCEEDED.code
        try:
            # A trace of its own: it may last longer than the live one, and would look like a part of it.
            with tracer.start_as_current_span("shadow version", context=Context(), links=links):
                with anyio.move_on_after(max(0.0, live.remaining)):
                    async with self._throttle.line():
                        outcome = await self._count(way, shadow_of(live, planned(), self._instance))
        except (PartLostError, NatsError, TimeoutError, OSError):
            # This says nothing of the version. Unlike a reader's question, a copy is not submitted again.
            outcome = ProblemType.BROKER_UNAVAILABLE.code
        except Exception:
            log.exception("a copy of a question failed")
            outcome = ProblemType.INTERNAL.code
        finally:
            self._in_flight -= 1
            COPIES.labels(outcome).inc()

    async def _count(self, way: _Way, query: Query) -> str:
        """Have a copy answered, and count how it ended. Returns that."""
        try:
            ended = await _answer(way, query)
        except PartLostError:
            raise
        except Problem as problem:
            self._recorder.shadow_ended(query, None, problem)
            return problem.kind.code
        self._recorder.shadow_ended(query, ended, None)
        return "answered"


async def _answer(way: _Way, query: Query) -> Ended:
    """How it ended. Raises its Problem."""
    answer = AnswerAssembler(append_only=False)
    ended: Ended | None = None
    with way.replies.mailbox(query.id) as mailbox:
        async with cancelled_unless(lambda: ended is not None, mailbox):
            await way.onward.begin(query, mailbox)
            while ended is None:
                event = await mailbox.receive(max(0.0, query.remaining) + 1)
                ended = next((part for part in answer.take(event) if isinstance(part, Ended)), None)
    return ended
