"""The stage runtime: runs a stage function against the broker and keeps what every stage promises.

1. It pulls what there is room for, at once, the interactive lane first.
2. Work past its deadline is dropped, and a cancel stops work in flight.
3. The result is forwarded, with the broker's acknowledgement, before the input is acknowledged: a crash is a
   redelivery, and a duplicate is harmless, as the broker knows a message by its id.
4. A full queue ahead is waited for briefly, then reported.
5. An exception becomes a problem on the reply plane, and work that keeps failing a dead letter.
6. Work for a reader who has left stops.
7. Draining finishes what is in flight and gives the rest back.
8. One trace follows the query, and metrics say how long it waited and worked.
"""

import asyncio
import time
from bisect import bisect_left
from collections import OrderedDict
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import anyio
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from opentelemetry.context import Context
from opentelemetry.trace import Span
from pydantic import BaseModel, ConfigDict

from shared.contracts.envelope import Lane, Query
from shared.contracts.graphs import limit
from shared.nats.client import Connection
from shared.nats.settings import QueueSettings
from shared.nats.subjects import QUERIES, StageQueue
from shared.nats.topology import Topology
from shared.runtime.executor import Outcome, StageExecutor
from shared.runtime.options import DEFAULTS, RuntimeOptions
from shared.runtime.pull import Delivery, PullConsumer
from shared.runtime.stage import Stage
from shared.telemetry.messaging import CONVERSATION, processing
from shared.telemetry.metrics import (
    CANCEL_LATENCY,
    IN_FLIGHT,
    OUTCOMES,
    QUEUE_WAIT,
    REDELIVERIES,
    ROOM,
    SECONDS,
    TENANT_WORK,
    WORK_TIME,
    exemplar,
    tenants,
)
from shared.telemetry.tracing import extract_trace, failed

__all__ = ["Outcome", "StageStatus", "StageWork", "StageWorker", "TimeBucket"]

FAILED = frozenset({Outcome.PROBLEM, Outcome.RETRIED, Outcome.DEAD_LETTER, Outcome.EXPIRED})
"""Outcomes that count as failures. A caller who leaves is none."""


class TimeBucket(BaseModel):
    """The messages whose work took more than `over` seconds and at most `up_to`; None is no bound."""

    model_config = ConfigDict(frozen=True)

    over: float
    up_to: float | None
    ended: int


class StageWork(BaseModel):
    """What one stage of one process has done since the process started, in both lanes: messages that ended, those of
    them that failed, the seconds for which they waited in the queue and were in work, and how the latter are spread."""

    model_config = ConfigDict(frozen=True)

    ended: int
    failed: int
    waited_seconds: float
    worked_seconds: float
    worked_buckets: tuple[TimeBucket, ...] = ()


class StageStatus(BaseModel):
    """One stage in one process: `in_flight` per lane, the room that both lanes share, its model's name, and what it has
    done, where the worker counts that."""

    model_config = ConfigDict(frozen=True)

    stage: str
    variant: str
    in_flight: dict[str, int]
    room: int
    model: str = ""
    work: StageWork | None = None


@dataclass(slots=True)
class _Totals:
    """What `StageWork` says, as it is counted."""

    ended: int = 0
    failed: int = 0
    waited_seconds: float = 0.0
    worked_seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))

    def count(self, outcome: Outcome, *, waited: float, worked: float) -> None:
        self.ended += 1
        self.failed += outcome in FAILED
        self.waited_seconds += waited
        self.worked_seconds += worked
        self.buckets[bisect_left(SECONDS, worked)] += 1

    def work(self) -> StageWork:
        """As it is told; buckets without a message are left out."""
        spread = zip((0.0, *SECONDS), (*SECONDS, None), self.buckets, strict=True)
        return StageWork(
            ended=self.ended,
            failed=self.failed,
            waited_seconds=self.waited_seconds,
            worked_seconds=self.worked_seconds,
            worked_buckets=tuple(TimeBucket(over=low, up_to=high, ended=ended) for low, high, ended in spread if ended),
        )


@dataclass(slots=True)
class _Work:
    """A query in work. A scope that is cancelled without being withdrawn has met its deadline."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    outcome: Outcome = Outcome.EXPIRED
    withdrawn_at: float = 0.0


class _Meters:
    """The metrics of one lane, looked up by their labels once."""

    def __init__(self, stage: Stage, lane: Lane) -> None:
        labels = (stage.name, stage.variant, lane.value)
        self.waited = QUEUE_WAIT.labels(*labels)
        self.worked = WORK_TIME.labels(*labels)
        self.redelivered = REDELIVERIES.labels(*labels)
        self.ended = {outcome: OUTCOMES.labels(*labels, outcome.value) for outcome in Outcome}


class StageWorker:
    """One process's worker for one stage."""

    def __init__(
        self,
        stage: Stage,
        *,
        client: Connection,
        jetstream: JetStreamContext,
        topology: Topology,
        settings: QueueSettings,
        instance: str,
        options: RuntimeOptions = DEFAULTS,
    ) -> None:
        self.stage = stage
        self._client = client
        self._topology = topology
        self._settings = settings
        self._options = options
        self._working: dict[tuple[str, int, int, str], _Work] = {}
        self._totals = _Totals()
        self._cancelled: OrderedDict[str, float] = OrderedDict()
        self._lost_reader_inbox = client.new_inbox()
        self._executor = StageExecutor(
            stage,
            client=client,
            jetstream=jetstream,
            topology=topology,
            max_deliver=settings.max_deliver,
            instance=instance,
            inbox=self._lost_reader_inbox,
            options=options,
        )
        self._queues = [
            StageQueue(stage=stage.name, variant=stage.variant, lane=lane, exclusive=stage.exclusive)
            for lane in stage.lanes
        ]
        self._consumers = {queue.lane: self._consumer(queue) for queue in self._queues}
        self._meters = {queue.lane: _Meters(stage, queue.lane) for queue in self._queues}
        for queue in self._queues:
            labels = (stage.name, stage.variant, queue.lane.value)
            ROOM.labels(*labels).set(stage.room if queue.lane is Lane.INTERACTIVE else stage.batch_room)
            IN_FLIGHT.labels(*labels).set_function(partial(_held, self._consumers[queue.lane]))

    @property
    def statuses(self) -> list[StageStatus]:
        return [
            StageStatus(
                stage=self.stage.name,
                variant=self.stage.variant,
                in_flight={lane.value: consumer.held for lane, consumer in self._consumers.items()},
                room=self.stage.room,
                model=self.stage.model,
                work=self._totals.work(),
            )
        ]

    @property
    def pulling(self) -> bool:
        """Whether the worker takes work in each lane."""
        return all(consumer.pulling for consumer in self._consumers.values())

    async def run(self) -> None:
        """Work until cancelled. Raises nats errors if the queues cannot be made."""
        await self._topology.ensure_queues(self._queues)
        async with asyncio.TaskGroup() as tasks:
            await self._client.subscribe(f"{self._lost_reader_inbox}.*", cb=self._hear_of_lost_reader)
            for consumer in self._consumers.values():
                tasks.create_task(consumer.run())

    async def reset(self) -> None:
        """Pull afresh after a reconnection."""
        for consumer in self._consumers.values():
            await consumer.reset()

    async def drain(self, grace: float) -> None:
        """Stop pulling, finish what is in flight within `grace` seconds, give the rest back."""
        await asyncio.gather(*(consumer.drain(grace) for consumer in self._consumers.values()))

    def cancel(self, query_id: str, at: float) -> None:
        """Stop work on a query whose reader lost interest at Unix time `at`, also if it only arrives later."""
        self._cancelled[query_id] = at
        if len(self._cancelled) > self._options.remembered_cancels:
            self._cancelled.popitem(last=False)
        self._withdraw(query_id, Outcome.CANCELLED, at)

    async def probe(self) -> None:
        """Send the canary through the stage and back over the reply plane. Raises Problem or TimeoutError."""
        await self._executor.probe()

    def _consumer(self, queue: StageQueue) -> PullConsumer:
        return PullConsumer(
            self._client,
            stream=QUERIES,
            consumer=queue.consumer,
            room=partial(self._room, queue.lane),
            handle=partial(self._handle, queue.lane),
            repair=self._repair,
            ack_wait=self._settings.ack_wait,
            released=self._wake,
            options=self._options,
        )

    async def _repair(self) -> None:
        # A cluster that elects a leader does not answer, and the next try may be sooner than the end of the request.
        async with asyncio.timeout(self._options.silence):
            await self._topology.ensure_queries()

    def _room(self, lane: Lane) -> int:
        if lane is Lane.INTERACTIVE or Lane.INTERACTIVE not in self._consumers:
            return self.stage.room if lane is Lane.INTERACTIVE else self.stage.batch_room
        interactive = self._consumers[Lane.INTERACTIVE]
        return min(self.stage.batch_room, self.stage.room - interactive.held - interactive.waiting)

    def _wake(self) -> None:
        for consumer in self._consumers.values():
            consumer.wake()

    async def _handle(self, lane: Lane, delivery: Delivery) -> None:
        started = time.time()
        meters = self._meters[lane]
        context = extract_trace(delivery.headers)
        example = exemplar(context)
        waited = max(0.0, started - delivery.stored_at)
        meters.waited.observe(waited, example)
        if delivery.deliveries > 1:
            meters.redelivered.inc()
        outcome = await self._take(delivery, started, context)
        worked = max(0.0, time.time() - started)
        meters.worked.observe(worked, example)
        meters.ended[outcome].inc()
        self._totals.count(outcome, waited=waited, worked=worked)
        TENANT_WORK.labels(tenants.label(delivery.subject.rpartition(".")[2]), self.stage.name).inc(worked)

    async def _take(self, delivery: Delivery, started: float, context: Context) -> Outcome:
        try:
            query = Query.decode(delivery.data)
            query.stop  # noqa: B018  (an empty slip has no business in a queue)
        except (ValueError, IndexError) as error:
            with self._span(delivery, None, started, context) as span:
                failed(span, type(error).__name__)
                return await self._executor.bury(delivery, None, f"This is no query envelope: {error}")
        if _key(query) in self._working:
            await delivery.nak(self._settings.ack_wait)
            return Outcome.DUPLICATE
        if query.remaining <= 0:
            await delivery.ack()
            return Outcome.EXPIRED
        if query.id in self._cancelled:
            await delivery.ack()
            return Outcome.CANCELLED
        with self._span(delivery, query, started, context) as span:
            if time.time() >= limit(query):
                outcome = await self._executor.overtake(query, delivery, started - delivery.stored_at, 0.0)
                span.set_attribute("sluice.outcome", outcome.value)
                return outcome
            if delivery.deliveries > self._settings.max_deliver:
                tries = self._settings.max_deliver
                failed(span, "worker_lost")
                reason = f"Delivered {tries} times; each worker died or stalled before it was done."
                return await self._executor.bury(delivery, query, reason)
            outcome = await self._work(query, delivery, started - delivery.stored_at)
            span.set_attribute("sluice.outcome", outcome.value)
            return outcome

    def _span(
        self, delivery: Delivery, query: Query | None, started: float, context: Context
    ) -> AbstractContextManager[Span]:
        name = self.stage.name
        return processing(
            f"query.{name}",
            subject=delivery.subject,
            consumer=self._consumers[query.lane if query is not None else self.stage.lanes[0]].name,
            context=context,
            deliveries=delivery.deliveries,
            attributes={
                "messaging.message.id": delivery.headers.get("Nats-Msg-Id", ""),
                CONVERSATION: query.id if query is not None else "",
                "messaging.message.body.size": len(delivery.data),
                "sluice.variant": self.stage.variant,
                "sluice.waited_ms": round(max(0.0, started - delivery.stored_at) * 1e3, 3),
            },
        )

    async def _work(self, query: Query, delivery: Delivery, waited: float) -> Outcome:
        work = self._working[_key(query)] = _Work()
        outcome = Outcome.EXPIRED
        began = time.perf_counter()
        try:
            with work.scope as scope:
                scope.deadline = anyio.current_time() + limit(query) - time.time()
                outcome = await self._executor.attempt(query, delivery, waited)
            if scope.cancelled_caught:
                outcome = work.outcome
                if not work.withdrawn_at and query.remaining > 0:
                    outcome = await self._executor.overtake(query, delivery, waited, time.perf_counter() - began)
                await delivery.ack()
        finally:
            del self._working[_key(query)]
        if work.withdrawn_at:
            CANCEL_LATENCY.labels(self.stage.name, self.stage.variant, query.lane.value).observe(
                max(0.0, time.time() - work.withdrawn_at)
            )
        return outcome

    async def _hear_of_lost_reader(self, message: Msg) -> None:
        # An event that was on its way when the connection broke goes out at once with the next one, and may find
        # readers who are not back yet.
        back_until = self._client.reconnected_at + self._options.reconnect_grace
        if (message.headers or {}).get("Status") == "503" and time.monotonic() > back_until:
            self._withdraw(message.subject.rpartition(".")[2], Outcome.READER_LEFT, time.time())

    def _withdraw(self, query_id: str, outcome: Outcome, at: float) -> None:
        for (working_id, *_), work in self._working.items():
            if working_id == query_id and not work.withdrawn_at:
                work.outcome, work.withdrawn_at = outcome, at
                work.scope.cancel()


def _key(query: Query) -> tuple[str, int, int, str]:
    """What is one piece of work: a redelivery has the same key, another attempt, visit or branch has not."""
    return query.id, query.attempt, len(query.trail), query.branch


def _held(consumer: PullConsumer) -> float:
    return float(consumer.held)
