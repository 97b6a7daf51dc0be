"""The life of a query: it is submitted, read, submitted again where the broker lost it, and ended at its deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Final

import anyio
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from prometheus_client import Counter, Gauge, Histogram
from pydantic import ValidationError

from services.gateway.http.problems import ClientLeftError
from services.gateway.queries.assembler import AnswerAssembler, Ended, NewText, Part, PartLostError
from services.gateway.queries.batch_throttle import BatchThrottle
from services.gateway.queries.late_steps import LateSteps
from services.gateway.queries.lost_index import explain_empty
from services.gateway.queries.progress import QueryProgress, overdue
from services.gateway.queries.queue_states import QueueStates
from services.gateway.queries.window import QueryWindow
from shared.contracts.envelope import Lane, Query
from shared.contracts.events import AnyEvent, Done, Progress, Usage, Waiting, decode_event
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import BUILT_IN_QUEUES, delivered_subject, reply_subject
from shared.runtime.onward import Onward
from shared.runtime.options import DEFAULTS
from shared.runtime.replies import Mailbox, ReplyRouter
from shared.runtime.requester import cancelled_unless
from shared.service.bus import Bus
from shared.service.http_protocol import Departure
from shared.stores.documents import Documents
from shared.telemetry.metrics import SECONDS, exemplar
from sluice.api.feedback import KeptAnswer

__all__ = ["QuerySession", "Queries"]

FIRST_DELTA = Histogram(
    "sluice_gateway_first_delta_seconds",
    "Time from an interactive query's request to the first text of its answer.",
    buckets=SECONDS,
)
IN_FLIGHT = Gauge("sluice_gateway_queries_in_flight", "Queries that wait for their answer.")

HANDED_OVER = Counter(
    "sluice_gateway_answers_handed_over_total", "Unfinished answers that another try asked to go on with."
)

CHARS_PER_TOKEN: Final = 4

Observer = Callable[["QuerySession", Problem | None], None]
"""Is told of a query that has ended, with the problem if it was one."""

WAKE: Final = Done(attempt=0, deltas=0)
"""An event of no attempt, which makes a session look whether to submit its query again."""

MOST_PARTS_LOST: Final = 3
"""Times that an answer of which events were lost is asked for again."""


class QuerySession:
    """One query in flight. `ended` is set once its answer is complete, and `kept` if that is to be kept."""

    def __init__(self, bus: Bus, onward: Onward, query: Query, mailbox: Mailbox, answer: AnswerAssembler) -> None:
        self.query = query
        self.answer = answer
        self.progress = QueryProgress(query.slip)
        self.ended: Ended | None = None
        self.first_delta_ms: float | None = None
        self.problem: Problem | None = None
        self.kept: KeptAnswer | None = None
        self._failure: Problem | None = None
        self.disconnected = False
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + query.remaining)
        self._onward = onward
        self._client = bus.client
        self._mailbox = mailbox
        self._began = time.perf_counter()
        self._reconnects = self._reconnections
        self._submitting: anyio.CancelScope | None = None
        self._lost = False
        self._parts_lost = 0
        self._late = LateSteps(bus, onward, mailbox)
        self.sequence = 0

    @property
    def elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._began) * 1e3, 3)

    @property
    def usage(self) -> Usage:
        """The tokens of prompt and answer; an estimate of the answer's where it broke off."""
        if self.ended is None:
            written = len(self.answer.text) + len(self.answer.reasoning)
            return Usage(completion_tokens=written // CHARS_PER_TOKEN)
        return self.ended.usage

    @property
    def timeout(self) -> float:
        return round(self.query.deadline - self.query.asked_at, 3)

    async def parts(self, patience: float | None = None) -> Sequence[Part]:
        """The parts of the answer that have arrived, at least one; none after `patience` seconds of silence.

        Raises the Problem with which the query ended, once the parts before it have been returned.
        """
        parts: list[Part] = []
        while not parts:
            if self._failure is not None:
                raise self._failure
            try:
                event = await self._mailbox.receive(patience)
            except TimeoutError:
                return parts
            if self._lost or self._reconnects != self._reconnections:
                # Events were lost with the connection, so those of the same attempt prove nothing.
                await self._submit_again()
                continue
            parts += self._take(event)
        try:
            while self.ended is None and not self._lost and (waiting := self._mailbox.more()) is not None:
                parts += self._take(waiting)
        except Problem as problem:
            self._failure = problem
        return parts

    def drain(self) -> None:
        """Note the progress in events that nobody has read."""
        while (event := self._mailbox.more()) is not None:
            self.progress.note(event)

    def _take(self, event: AnyEvent) -> tuple[Part, ...]:
        self.progress.note(event)
        if isinstance(event, Waiting) and event.attempt == self.query.attempt:
            self._late.watch(event)
        try:
            parts = self.answer.take(event)
        except PartLostError:
            # Lost with the connection of its worker, or with a node between: another attempt goes on from here.
            self._parts_lost += 1
            if self._mailbox.overflowed or self._parts_lost > MOST_PARTS_LOST:
                raise
            self.resubmit()
            return ()
        self._record(parts)
        return parts

    async def _submit_again(self) -> None:
        self.query = self.query.resubmitted()
        self.answer.expect(self.query.attempt)
        await self.submit()

    async def submit(self) -> None:
        """Put the query on the queue of its first stop, anew for each reconnection meanwhile.

        Raises Problem QUEUE_FULL or BROKER_UNAVAILABLE.
        """
        while True:
            self._reconnects, self._lost = self._reconnections, False
            with anyio.CancelScope() as self._submitting:
                self.sequence = await self._onward.begin(self.query, self._mailbox)
            interrupted = self._submitting.cancelled_caught
            self._submitting = None
            if not interrupted:
                return
            self.query = self.query.resubmitted()
            self.answer.expect(self.query.attempt)

    def resubmit(self) -> None:
        """Submit the query again, now or with the next event: it may be lost, and so may events."""
        if self._submitting is not None:
            self._submitting.cancel()
        else:
            self._lost = True
            self._mailbox.put(WAKE)

    def close(self) -> None:
        """Nothing is to happen for this query any more."""
        self._late.forget()

    def client_disconnected(self) -> None:
        """Stop, as nobody reads the answer any more."""
        if self.ended is None:
            self.disconnected = True
            self.scope.cancel()

    def abort(self, problem: Problem) -> None:
        self.problem = problem
        self.scope.cancel()

    @property
    def _reconnections(self) -> int:
        return int(self._client.stats["reconnects"])

    def _record(self, parts: tuple[Part, ...]) -> None:
        for part in parts:
            if isinstance(part, NewText) and part.text:
                if self.first_delta_ms is None:
                    self.first_delta_ms = self.elapsed_ms
                    if self.query.lane is Lane.INTERACTIVE:
                        FIRST_DELTA.observe(self.first_delta_ms / 1e3, exemplar())
            elif isinstance(part, Ended):
                self.ended = part


class Queries:
    """All queries of this gateway that are in flight.

    `shadowed` is a block around the rest of a query's life once it has been submitted. `observe` is told how each query
    has ended: with its answer or with a problem; of those whose client has left it is told nothing.
    """

    def __init__(
        self,
        bus: Bus,
        instance: str,
        replies: ReplyRouter,
        shadowed: Callable[[QuerySession], AbstractContextManager[None]],
        throttle: BatchThrottle,
        window: QueryWindow,
        documents: Documents,
        observe: Observer,
    ) -> None:
        self._bus = bus
        self._observe = observe
        self._replies = replies
        self._throttle = throttle
        self._window = window
        self._documents = documents
        self._instance = instance
        self._shadowed = shadowed
        self._sessions: set[QuerySession] = set()
        self._by_reply: dict[str, QuerySession] = {}
        self._session_ended = asyncio.Event()
        self._states = QueueStates(bus)
        # A reader who finds a queue full is told at once.
        self._onward = Onward(bus.jetstream, bus.topology, DEFAULTS, room=0)
        IN_FLIGHT.set_function(lambda: len(self._sessions))

    @property
    def in_flight(self) -> Sequence[QuerySession]:
        return tuple(self._sessions)

    async def open(self) -> None:
        """Make the queues, and tell workers that take over an unfinished answer what has been delivered."""
        await self._bus.topology.ensure_queues(BUILT_IN_QUEUES)
        await self._bus.client.subscribe(
            delivered_subject(reply_subject(self._instance, "*")), cb=self._report_delivered
        )

    @asynccontextmanager
    async def ask(self, query: Query, departure: Departure, *, append_only: bool) -> AsyncIterator[QuerySession]:
        """Submit a query and hold it in flight while the block runs, at most until its deadline.

        When the client disconnects, the block is cancelled, all stages are told to stop, and ClientLeftError is
        raised. Raises Problem QUEUE_FULL or BROKER_UNAVAILABLE, or the one that explains a passed deadline.
        """
        with self._replies.mailbox(query.id) as mailbox:
            session = QuerySession(self._bus, self._onward, query, mailbox, AnswerAssembler(append_only=append_only))
            try:
                async with self._in_flight(session, mailbox, departure):
                    yield session
            except Problem as problem:
                self._observe(session, problem)
                raise
        self._observe(session, None)

    @asynccontextmanager
    async def _in_flight(self, session: QuerySession, mailbox: Mailbox, departure: Departure) -> AsyncIterator[None]:
        query = session.query
        self._sessions.add(session)
        self._by_reply[query.reply] = session
        departure.listen(session.client_disconnected)
        throttled = self._throttle.query() if query.lane is Lane.INTERACTIVE else nullcontext()
        async with cancelled_unless(lambda: session.ended is not None, mailbox):
            try:
                with session.scope, throttled:
                    async with self._window.place(query):
                        await session.submit()
                        with self._shadowed(session):
                            try:
                                yield
                            except Problem as problem:
                                raise await explain_empty(problem, query, self._documents) from None
            finally:
                session.close()
                departure.forget(session.client_disconnected)
                self._sessions.discard(session)
                del self._by_reply[query.reply]
                self._session_ended.set()
        if session.scope.cancelled_caught and session.ended is None:
            raise await self._failure_of(session)

    async def resubmit(self) -> None:
        """After a reconnection: every query in flight is submitted again."""
        for session in list(self._sessions):
            session.resubmit()

    async def close(self, grace: float) -> None:
        """Wait up to `grace` seconds for the queries in flight, then end the rest with a problem."""
        with anyio.move_on_after(grace):
            while self._sessions:
                self._session_ended.clear()
                await self._session_ended.wait()
        problem = Problem(ProblemType.ANSWER_INTERRUPTED, "The gateway stops before the answer is finished. Ask again.")
        for session in list(self._sessions):
            session.abort(problem)

    async def _report_delivered(self, message: Msg) -> None:
        session = self._by_reply.get(message.subject.removesuffix(delivered_subject("")))
        if session is None or not message.reply:
            return
        try:
            progress = decode_event(message.data)
        except ValidationError:
            return
        if isinstance(progress, Progress) and (delivered := session.answer.report_delivered(progress)) is not None:
            HANDED_OVER.inc()
            await message.respond(delivered.model_dump_json().encode())

    async def _failure_of(self, session: QuerySession) -> Exception:
        if session.disconnected:
            return ClientLeftError()
        if session.problem is not None:
            return session.problem
        session.drain()
        ahead = session.progress.ahead
        try:
            queue = await self._states.of(ahead, session.query) if ahead else None
        except (NatsError, TimeoutError):
            detail = f"The message broker was away at the end of the {session.timeout:g} s of the query. Ask again."
            return Problem(ProblemType.BROKER_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        return overdue(session.progress, session.timeout, queue)
