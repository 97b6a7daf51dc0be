"""Shadow traffic: copies of live queries for another variant of a stage, whose answers are measured and dropped.

A shadow is a query of its own, with its own id and mailbox, on the batch lane. The live query never waits for it, and
no client sees its answer.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio
import anyio.abc
from nats.errors import Error as NatsError
from opentelemetry import trace
from opentelemetry.context import Context

from services.gateway.queries.assembler import AnswerAssembler, Ended, NewText, PartLostError
from services.gateway.queries.batch_throttle import BatchThrottle
from services.gateway.queries.copies import shadow_of
from services.gateway.queries.formatter import answer_of
from services.gateway.queries.session import QuerySession
from services.gateway.variants.selector import Copy, Router
from services.gateway.variants.shadow_metrics import IN_FLIGHT, OUTCOMES, Comparison, Run
from shared.contracts.envelope import Query
from shared.contracts.events import AnyEvent, Progress
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.onward import Onward
from shared.runtime.options import DEFAULTS
from shared.runtime.replies import Mailbox, ReplyRouter
from shared.runtime.requester import cancelled_unless
from shared.service.bus import Bus
from shared.telemetry.tracing import tracer
from sluice.api.feedback import KeptAnswer
from sluice.api.queries import Answer, Timings

__all__ = ["Shadows"]

log = logging.getLogger(__name__)

ANSWERED: Final = "answered"
CANCELLED: Final = "cancelled"
SKIPPED: Final = "skipped"
UNVISITED: Final = "unvisited"
"""Its way through a graph did not come to the compared stage, so it says nothing of the variant."""


Keep = Callable[[str, KeptAnswer], None]
"""Keeps an answer for a tenant."""


class _Shadow:
    """One copy in flight."""

    def __init__(
        self,
        onward: Onward,
        instance: str,
        replies: ReplyRouter,
        throttle: BatchThrottle,
        live: Query,
        copy: Copy,
        keep: Keep,
    ) -> None:
        self.copy = copy
        self.comparison = Comparison(copy.stage, copy.variant)
        self._onward = onward
        self._replies = replies
        self._throttle = throttle
        self._keep = keep
        self._query = shadow_of(live, live.model_copy(update={"slip": copy.slip}), instance)
        self._answer = AnswerAssembler(append_only=False)
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + self._query.remaining)
        self._began = time.perf_counter()
        self._first_delta: float | None = None
        self._stopped = False
        self._reached = False
        self._whole: Answer | None = None
        self._beside: KeptAnswer | None = None
        self._live = trace.get_current_span().get_span_context()

    def stop(self) -> None:
        """Drop it."""
        self._stopped = True
        self._scope.cancel()

    def keep_beside(self, live: KeptAnswer | None) -> None:
        """Keep its answer too once there is one, if the live answer is kept: without it nobody could tell whose."""
        self._beside = live
        self._keep_pair()

    async def run(self) -> str:
        """Submit it and read its answer. Returns how it ended."""
        links = [trace.Link(self._live)] if self._live.is_valid else []
        name, attributes = f"shadow {self.copy.stage}", {"sluice.variant": self.copy.variant}
        # A trace of its own: it may last longer than the live one, and would look like a part of it.
        with tracer.start_as_current_span(name, context=Context(), links=links, attributes=attributes):
            try:
                return await self._submit()
            except (PartLostError, NatsError, TimeoutError, OSError):
                return ProblemType.BROKER_UNAVAILABLE.code
            except Problem as problem:
                return problem.kind.code
            except Exception:
                log.exception("a shadow query failed")
                return ProblemType.INTERNAL.code

    async def _submit(self) -> str:
        ended: Ended | None = None
        with self._replies.mailbox(self._query.id) as mailbox:
            async with cancelled_unless(lambda: ended is not None, mailbox):
                with self._scope:
                    async with self._throttle.line():
                        await self._onward.begin(self._query, mailbox)
                        while ended is None:
                            ended = await self._next(mailbox)
            while (event := mailbox.more()) is not None:
                self._note(event)
        if ended is not None:
            if not any((hop.stage, hop.variant) == (self.copy.stage, self.copy.variant) for hop in ended.trail):
                return UNVISITED
            seconds = time.perf_counter() - self._began
            run = Run.of(self._answer, ended, self.copy.stage, seconds=seconds, first_delta=self._first_delta)
            self.comparison.note("shadow", run)
            first = None if run.first_delta is None else run.first_delta * 1e3
            timings = Timings(total_ms=run.seconds * 1e3, first_delta_ms=first, stages=ended.trail)
            self._whole = answer_of(self._query, self._answer, ended, timings)
            self._keep_pair()
            return ANSWERED
        if self._stopped:
            return CANCELLED
        late = ProblemType.DEADLINE_EXCEEDED if self._reached else ProblemType.STAGE_UNAVAILABLE
        return late.code

    def _keep_pair(self) -> None:
        if self._whole is not None and self._beside is not None:
            pair = {"id": self._beside.id, "stage": self.copy.stage, "variant": self.copy.variant}
            self._keep(self._query.tenant, self._beside.model_copy(update={**dict(self._whole), **pair}))

    async def _next(self, mailbox: Mailbox) -> Ended | None:
        event = await mailbox.receive(max(self._query.remaining, 0.0) + 1)
        self._note(event)
        for part in self._answer.take(event):
            if isinstance(part, Ended):
                return part
            if isinstance(part, NewText) and self._first_delta is None:
                self._first_delta = time.perf_counter() - self._began
        return None

    def _note(self, event: AnyEvent) -> None:
        if isinstance(event, Progress) and event.stage == self.copy.stage:
            self._reached = True


class Shadows:
    """All shadows of this gateway, `most` at once, or fewer where the throttle has them wait; the rest are left out.
    `keep` is called with each answer."""

    def __init__(
        self,
        bus: Bus,
        instance: str,
        replies: ReplyRouter,
        router: Router,
        throttle: BatchThrottle,
        most: int,
        keep: Keep,
    ) -> None:
        self._onward = Onward(bus.jetstream, bus.topology, DEFAULTS, room=0)
        self._instance = instance
        self._replies = replies
        self._router = router
        self._throttle = throttle
        self._most = throttle.most(most)
        self._keep = keep
        self._running: set[_Shadow] = set()
        self._tasks: anyio.abc.TaskGroup | None = None
        IN_FLIGHT.set_function(lambda: len(self._running))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Shadows can be sent for as long as the block runs, or until they are stopped."""
        async with anyio.create_task_group() as self._tasks:
            try:
                yield
            finally:
                self.stop()

    def stop(self) -> None:
        """Send no more shadows, and drop those in flight."""
        self._tasks = None
        for shadow in self._running:
            shadow.stop()

    @contextmanager
    def shadow(self, session: QuerySession) -> Iterator[None]:
        """Send the shadows of a query that has just been submitted; the block is the rest of its life.

        The shadows of a query whose client disconnects are stopped: nothing is left to compare them with.
        """
        shadows = [shadow for copy in self._router.copies(session.query) if (shadow := self._send(session.query, copy))]
        try:
            yield
        finally:
            for shadow in shadows:
                _compare(shadow, session)

    def _send(self, live: Query, copy: Copy) -> _Shadow | None:
        if self._tasks is None:
            return None
        if len(self._running) >= self._most:
            OUTCOMES.labels(copy.stage, copy.variant, SKIPPED).inc()
            return None
        shadow = _Shadow(self._onward, self._instance, self._replies, self._throttle, live, copy, self._keep)
        self._running.add(shadow)
        self._tasks.start_soon(self._run, shadow)
        return shadow

    async def _run(self, shadow: _Shadow) -> None:
        try:
            outcome = await shadow.run()
            OUTCOMES.labels(shadow.copy.stage, shadow.copy.variant, outcome).inc()
        finally:
            self._running.discard(shadow)


def _compare(shadow: _Shadow, session: QuerySession) -> None:
    if session.ended is not None:
        seconds, first_ms = session.elapsed_ms / 1e3, session.first_delta_ms
        first_delta = None if first_ms is None else first_ms / 1e3
        run = Run.of(session.answer, session.ended, shadow.copy.stage, seconds=seconds, first_delta=first_delta)
        shadow.comparison.note("live", run)
        shadow.keep_beside(session.kept)
    elif session.disconnected:
        shadow.stop()
