"""Does a stage's work on one query, and reports its outcome.

The result goes to the next queue or to the reader before the input is acknowledged, so a crash in between is a
redelivery. A problem goes to the reader. Any other exception is another try, and in the end a dead letter. Where the
stop is a step of a fallback, the query takes the other way instead of ending with a problem.
"""

import asyncio
import logging
import random
import time
import traceback
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Any, Final

from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from opentelemetry import trace
from pydantic import ValidationError

from shared.contracts.envelope import Hop, Query, Stop
from shared.contracts.events import Delivered, Done, Failed, Progress, Result, encode_event
from shared.contracts.problems import Problem, ProblemType
from shared.nats.client import Connection
from shared.nats.subjects import QUERIES, delivered_subject
from shared.nats.topology import Topology
from shared.panics import is_end
from shared.runtime.event_publisher import EventPublisher
from shared.runtime.onward import Onward, StrandedError
from shared.runtime.options import DEFAULTS, RuntimeOptions
from shared.runtime.pull import Delivery
from shared.runtime.replies import open_mailbox
from shared.runtime.stage import Context, Stage
from shared.stores.dead_letters import DeadLetters
from shared.telemetry.tracing import failed

__all__ = ["Outcome", "StageExecutor"]

log = logging.getLogger(__name__)

NOTHING: Final = Query(id="canary", asked_at=0, deadline=0, reply="-", slip=())
"""The canary of a stage that names none."""


class Outcome(StrEnum):
    """How a message ended in a stage; the label `outcome` of `sluice_stage_messages_total`."""

    FORWARDED = "forwarded"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    READER_LEFT = "reader_left"
    PROBLEM = "problem"
    RETRIED = "retried"
    DEAD_LETTER = "dead_letter"
    DUPLICATE = "duplicate"
    FALLBACK = "fallback"


class StageExecutor:
    """Works on one query after another, or on many at once. `inbox` is where the broker says that nobody listens."""

    def __init__(
        self,
        stage: Stage,
        *,
        client: Connection,
        jetstream: JetStreamContext,
        topology: Topology,
        max_deliver: int,
        instance: str,
        inbox: str,
        options: RuntimeOptions = DEFAULTS,
    ) -> None:
        self._stage = stage
        self._client = client
        self._max_deliver = max_deliver
        self._instance = instance
        self._inbox = inbox
        self._options = options
        self._onward = Onward(jetstream, topology, options, room=stage.room)
        self._dead_letters = DeadLetters(client, jetstream)

    async def attempt(self, query: Query, delivery: Delivery, waited: float) -> Outcome:
        """Work on a query that waited so many seconds, and settle its delivery. Cancelled, it leaves that undone."""
        began = time.perf_counter()
        try:
            outcome = await self._perform(query, self._origin(query, delivery), waited)
        except StrandedError as stranded:
            outcome = _outcome(await self._end(stranded.query, delivery, stranded.problem, None))
        except Problem as problem:
            if problem.kind is ProblemType.BROKER_UNAVAILABLE:
                # It passes, and the queue still has the query.
                return await self._try_again(query, delivery, problem, waited)
            outcome = _outcome(await self._end(query, delivery, problem, self._hop(waited, began)))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this work: something that it waited for was cancelled.
            return await self._try_again(query, delivery, error, waited)
        except BaseException as error:
            if is_end(error):
                raise
            return await self._try_again(query, delivery, error, waited)
        await delivery.ack()
        return outcome

    async def overtake(self, query: Query, delivery: Delivery, waited: float, worked: float) -> Outcome:
        """Settle the delivery of a query that has taken longer than the fallback allows which it is a step of."""
        detail = f"Stage '{self._stage.name}' did not end in the time that the pipeline gives it."
        problem = Problem(ProblemType.DEADLINE_EXCEEDED, detail)
        hop = self._hop(waited, time.perf_counter() - worked)
        outcome = _outcome(await self._end(query, delivery, problem, hop))
        await delivery.ack()
        return outcome

    async def bury(
        self,
        delivery: Delivery,
        query: Query | None,
        reason: str,
        *,
        shown: str = "",
        details: str = "",
        waited: float = 0.0,
    ) -> Outcome:
        """Keep the message as a dead letter, fall back or tell the reader, and take it off the queue, in this order.

        The reader is told what is `shown`, if not the reason itself: the words of an exception may name paths, tables
        or other people's data.
        """
        await self._dead_letters.bury(
            delivery.subject,
            delivery.data,
            delivery.headers,
            reason=reason,
            deliveries=delivery.deliveries,
            # The sequence alone begins again whenever the broker loses its memory.
            message_id=f"{QUERIES}:{delivery.sequence}:{delivery.stored_at}",
            traceback=details,
        )
        if query is not None:
            detail = f"Stage '{self._stage.name}' failed {delivery.deliveries} times and gave up: {shown or reason}"
            with suppress(NatsError):  # a reader who cannot be reached does not keep the message in the queue
                hop = self._hop(waited, time.perf_counter())
                await self._end(query, delivery, Problem(ProblemType.STAGE_FAILED, detail), hop)
        await delivery.ack()
        return Outcome.DEAD_LETTER

    async def probe(self) -> None:
        """Send the canary through the stage and back over the broker. Raises Problem or TimeoutError."""
        # The inbox of this process's own: it has no business on the subjects of those who ask.
        inbox = self._client.new_inbox()
        query_id = f"canary-{self._stage.name}-{self._stage.variant}-{self._instance}"[:64]
        now = time.time()
        template = self._stage.canary or NOTHING
        canary = template.model_copy(
            update={
                "id": query_id,
                "asked_at": now,
                "deadline": now + self._options.canary_timeout,
                "reply": inbox,
                "slip": template.slip[:1] or (Stop(stage=self._stage.name, variant=self._stage.variant),),
            }
        )
        async with open_mailbox(self._client, self._instance, query_id, subject=inbox) as mailbox:
            async with asyncio.timeout(self._options.canary_timeout):
                await self._perform(Query.decode(canary.encode()), self._origin(canary), 0.0)
            while not isinstance(event := await mailbox.receive(self._options.canary_timeout), Result | Done):
                if isinstance(event, Failed):
                    raise Problem.from_details(event.problem)

    async def _try_again(self, query: Query, delivery: Delivery, error: BaseException, waited: float) -> Outcome:
        log.error("stage %s failed", self._stage.name, exc_info=error, extra={"query": query.id})
        span = trace.get_current_span()
        span.record_exception(error)
        failed(span, type(error).__name__)
        if delivery.deliveries >= self._max_deliver:
            name, details = type(error).__name__, "".join(traceback.format_exception(error))
            shown = f"{name}. The stage's log and the dead letter of query '{query.id}' say more."
            return await self.bury(delivery, query, f"{name}: {error}", shown=shown, details=details, waited=waited)
        await delivery.nak(min(5.0, 0.1 * 2**delivery.deliveries) * random.uniform(0.5, 1.0))  # noqa: S311
        return Outcome.RETRIED

    def _origin(self, query: Query, delivery: Delivery | None = None) -> dict[str, Any]:
        """What every event of a try says of it."""
        counted = (
            {"delivery": 1} if delivery is None else {"delivery": delivery.deliveries, "message": delivery.sequence}
        )
        visited = any(hop.stage == self._stage.name for hop in query.trail)
        visit = {"visit": len(query.trail)} if visited else {}
        branch = {"branch": query.branch} if query.branch else {}
        return {"attempt": query.attempt, "stage": self._stage.name, **counted, **visit, **branch}

    async def _perform(self, query: Query, origin: dict[str, Any], waited: float) -> Outcome:
        """Run the stage and send what it made on its way."""
        began = time.perf_counter()
        async with self._publisher(query) as publisher:
            await publisher.send(Progress(worker=self._instance, **origin))
            context = Context(
                query,
                origin=origin,
                hop=partial(self._hop, waited, began),
                send=publisher.send,
                delivered=partial(self._delivered, query, origin),
            )
            made = await self._stage.process(query, context)
            if made is None and not query.branch:
                return Outcome.ANSWERED
            made = made or query
            forwarded = await self._onward.go_on(made.advance(self._hop(waited, began)), publisher, origin)
            return Outcome.FORWARDED if forwarded else Outcome.ANSWERED

    async def _end(self, query: Query, delivery: Delivery, problem: Problem, hop: Hop | None) -> Problem | None:
        """Fall back, or tell the reader the problem that is left, and return it. `hop` is as in `Onward.fall_back`."""
        origin, publisher = self._origin(query, delivery), self._publisher(query)
        left = await self._onward.fall_back(query, problem, hop, publisher, origin)
        if left is not None:
            await publisher.send(Failed(problem=left.details, trail=query.trail, **origin))
        return left

    def _hop(self, waited: float, began: float) -> Hop:
        return Hop(
            stage=self._stage.name,
            variant=self._stage.variant,
            worker=self._instance,
            waited_ms=round(max(0.0, waited) * 1e3, 3),
            worked_ms=round((time.perf_counter() - began) * 1e3, 3),
        )

    def _publisher(self, query: Query) -> EventPublisher:
        # If nobody listens, the broker says so to the inbox.
        return EventPublisher(self._client, query, stage=self._stage.name, inbox=f"{self._inbox}.{query.id}")

    async def _delivered(self, query: Query, origin: dict[str, Any]) -> Delivered | None:
        """Ask the reader. One that has left is noticed by the next event; an answer that cannot be read is none."""
        request = encode_event(Progress(worker=self._instance, **origin))
        try:
            message = await self._client.request(
                delivered_subject(query.reply), request, timeout=self._options.delivered_timeout
            )
            return Delivered.model_validate_json(message.data)
        except (NoRespondersError, NatsTimeout, ValidationError):
            return None


def _outcome(left: Problem | None) -> Outcome:
    """That of work which a problem was left of, noted with its span; None: a fallback has helped."""
    if left is None:
        return Outcome.FALLBACK
    failed(trace.get_current_span(), left.kind.code)
    return Outcome.PROBLEM
