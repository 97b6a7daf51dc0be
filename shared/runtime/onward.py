"""Where an envelope goes once a stage is done with it, or has failed on it: to the next queue, into parallel branches
and out of them, or to its reader."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from pydantic import ValidationError

from shared.contracts.envelope import Hop, Query
from shared.contracts.events import AnyEvent, Failed, Result, Waiting
from shared.contracts.graphs import Cache, Ensemble, Join, Keep, control_of, fallen_back, limit, resolved
from shared.contracts.graphs.caching import begun, restored, taken
from shared.contracts.graphs.joins import Verdict, after_branch, merged, refused, split
from shared.contracts.problems import Problem, ProblemType
from shared.nats.topology import Topology
from shared.runtime.event_publisher import EventPublisher
from shared.runtime.forward import forward, message_id, recover
from shared.runtime.options import RuntimeOptions
from shared.stores.joins import JoinStore
from shared.stores.step_results import StepResults
from shared.tasks import TaskSet
from shared.telemetry.metrics import JOINED, PIPELINE_CACHE

__all__ = ["Onward", "Sends", "StrandedError"]

LASTING: Final = ProblemType.BROKER_UNAVAILABLE
"""What no fallback is used for: it passes, and the queue still has the query."""

STORE_TRIES: Final = 8
"""Tries to reach the record of an ensemble before the query is tried again as a whole."""

T = TypeVar("T")


class StrandedError(Exception):
    """A query cannot go on from here. `query` has been advanced past the stage that did its work."""

    def __init__(self, query: Query, problem: Problem) -> None:
        super().__init__(problem)
        self.query = query
        self.problem = problem


class Sends(Protocol):
    """The way to the reader."""

    async def send(self, event: AnyEvent, /) -> bool: ...


class Onward:
    """Sends envelopes on. `room` is that of the stage, of which half at most waits for room in queues ahead; of 0, none
    does.

    What waits there holds room, and a queue is full for one tenant: the others' work goes on in the other half.
    """

    def __init__(self, jetstream: JetStreamContext, topology: Topology, options: RuntimeOptions, *, room: int) -> None:
        self._js = jetstream
        self._topology = topology
        self._options = options
        self._joins = JoinStore(jetstream)
        self._results = StepResults(jetstream)
        self._beside = TaskSet()
        self._most_held_up = max(1, room // 2) if room else 0
        self._held_up = 0

    async def begin(self, query: Query, reader: Sends) -> int:
        """Send a resolved envelope to the first stage of its slip, or into branches. Returns the number under which the
        broker has stored it, or one of its branches.

        Raises Problem QUEUE_FULL, TOO_LARGE and BROKER_UNAVAILABLE.
        """
        return await self._advance(query, message_id(query), reader, {"attempt": query.attempt})

    async def go_on(self, made: Query, publisher: EventPublisher, origin: dict[str, Any]) -> bool:
        """Resolve what is at the head of the slip, and send the envelope there. Returns whether a stage is next.

        Raises StrandedError, and Problem BROKER_UNAVAILABLE.
        """
        try:
            query = resolved(made)
            if query.slip:
                await publisher.flush()
            await self._advance(query, message_id(made) if made.slip else "", publisher, origin)
        except Problem as problem:
            if problem.kind is LASTING:
                raise
            raise StrandedError(made, problem) from None
        return bool(query.slip)

    async def fall_back(
        self,
        query: Query,
        problem: Problem,
        hop: Hop | None,
        reader: Sends,
        origin: dict[str, Any],
        *,
        known_as: str = "",
    ) -> Problem | None:
        """Send a query on the way that a fallback has for its problem, or end its branch with that. Returns the problem
        that is left, if one is.

        `hop` is the visit of the stage that failed; None where the query has not got on from there. The message has
        the id that it would have had after a success: a redelivery that ends otherwise than the try before it adds no
        second way. `known_as` is another id. Raises Problem BROKER_UNAVAILABLE.
        """
        while (other := fallen_back(query, problem, hop)) is not None:
            known_as = known_as or message_id(query if hop is None else query.advance(hop))
            try:
                await self._advance(resolved(other), known_as, reader, origin)
            except Problem as further:
                if further.kind is LASTING:
                    raise
                query, problem, hop = other, further, None
            else:
                return None
        return problem

    async def _advance(self, query: Query, known_as: str, reader: Sends, origin: dict[str, Any]) -> int:
        """Send a resolved envelope on, to the reader if its slip is empty. Returns the number of a message that was
        stored, 0 where none was. Raises Problem."""
        if not query.slip:
            await reader.send(Result(query=query, **origin))
            return 0
        match control_of(query.stop):
            case Ensemble() as ensemble:
                return await self._fan_out(query, ensemble, known_as, reader, origin)
            case Join() as join:
                return await self._join(query, join, reader, origin)
            case Cache() as cache:
                return await self._advance(await self._cached(query, cache), known_as, reader, origin)
            case Keep() as keep:
                self._beside.start(self._keep(query, keep))
                rest = resolved(query.model_copy(update={"slip": query.slip[1:]}))
                return await self._advance(rest, known_as, reader, origin)
        return await self._forward(query, known_as, reader, origin)

    async def _fan_out(
        self, query: Query, ensemble: Ensemble, known_as: str, reader: Sends, origin: dict[str, Any]
    ) -> int:
        """A redelivery does it again: the record is kept once, and so is each branch's message."""
        key, record, branches = split(query, ensemble, known_as)
        await self._reach(query, partial(self._joins.begin, key, record))
        sequences: list[int] = []
        failures: list[Exception] = []

        async def start(branch: Query) -> None:
            try:
                sequences.append(await self._start(branch, reader, origin))
            except Exception as error:  # noqa: BLE001  (the others are to get on their way all the same)
                failures.append(error)

        # Unlike asyncio.gather, a task group hands on the cancellation that a scope around it waits for.
        async with asyncio.TaskGroup() as group:
            for branch in branches:
                group.create_task(start(branch))
        if failures:
            raise failures[0]
        if len(sequences) < len(branches):
            # Something that it waited for was cancelled, such as an answer on a connection that is lost.
            raise _away()
        return max(sequences)

    async def _join(self, query: Query, join: Join, reader: Sends, origin: dict[str, Any]) -> int:
        """Note how a branch has ended, and take the query on where that decides it."""

        record = await self._reach(
            query, partial(self._joins.end, join.record, lambda known: after_branch(known, query, join))
        )
        if record is None or record.before is None or join.branch not in record.ended:
            JOINED.labels("late").inc()
            return 0
        if record.verdict is Verdict.OPEN:
            return 0
        # The stages visited do not tell what comes next from the ensemble itself: perhaps none was.
        known_as = f"{join.record}:joined"
        if record.verdict is Verdict.MERGED:
            sequence = await self._start(merged(record), reader, origin, known_as=known_as)
        else:
            sequence = await self._set_right(record.before, refused(record), reader, origin, known_as=known_as)
        JOINED.labels(record.verdict.value).inc()
        self._beside.start(self._close(join.record))
        return sequence

    async def _close(self, key: str) -> None:
        """Make room. It is not waited for: a record that stays is as good, and goes with its time."""
        with suppress(NatsError, TimeoutError, OSError):
            await self._joins.close(key)

    async def _cached(self, query: Query, cache: Cache) -> Query:
        """The envelope as the steps of a cache would leave it, where that is known, else with these steps."""
        record, with_steps = begun(query, cache)
        if (kept := await self._results.get(record)) is not None:
            with suppress(ValidationError):
                query = restored(query, kept)
                PIPELINE_CACHE.labels("hit").inc()
                return resolved(query)
        PIPELINE_CACHE.labels("miss").inc()
        return resolved(with_steps)

    async def _keep(self, query: Query, keep: Keep) -> None:
        if (kept := taken(query, keep)) is not None:
            done = await self._results.put(keep.record, kept, keep.seconds)
            PIPELINE_CACHE.labels("kept" if done else "not kept").inc()

    async def _start(self, made: Query, reader: Sends, origin: dict[str, Any], *, known_as: str = "") -> int:
        """Send an envelope on that nobody else looks after. Raises Problem BROKER_UNAVAILABLE."""
        known_as = known_as or (message_id(made) if made.slip else "")
        try:
            return await self._advance(resolved(made), known_as, reader, origin)
        except Problem as problem:
            if problem.kind is LASTING:
                raise
            return await self._set_right(made, problem, reader, origin, known_as=known_as)

    async def _set_right(
        self, query: Query, problem: Problem, reader: Sends, origin: dict[str, Any], *, known_as: str
    ) -> int:
        """Fall back, or tell the reader what is left of the problem."""
        left = await self.fall_back(query, problem, None, reader, origin, known_as=known_as)
        if left is not None:
            await reader.send(Failed(problem=left.details, trail=query.trail, **origin))
        return 0

    async def _reach(self, query: Query, use: Callable[[], Awaitable[T]]) -> T:
        """Use the record of an ensemble, also where the broker is away for a moment. Raises Problem."""
        for left in reversed(range(STORE_TRIES)):
            try:
                return await use()
            except (NatsError, TimeoutError, OSError) as error:
                if not left or query.remaining <= 0:
                    raise _away() from error
                await recover(self._topology, error)
        raise AssertionError("no try was made")

    async def _forward(self, query: Query, known_as: str, reader: Sends, origin: dict[str, Any]) -> int:
        """Raises as `forward` does. A full queue ahead is waited for in half of the room at most."""
        sequence = await self._store(query, known_as)
        if (until := limit(query)) < query.deadline:
            await reader.send(Waiting(sequence=sequence, until=until, **{**origin, "branch": query.branch}))
        return sequence

    async def _store(self, query: Query, known_as: str) -> int:
        try:
            return await forward(self._js, self._topology, query, known_as=known_as)
        except Problem as problem:
            if problem.kind is not ProblemType.QUEUE_FULL or self._held_up >= self._most_held_up:
                raise
        self._held_up += 1
        try:
            timeout = self._options.forward_timeout
            return await forward(self._js, self._topology, query, room_timeout=timeout, known_as=known_as)
        finally:
            self._held_up -= 1


def _away() -> Problem:
    detail = "The message broker does not answer. Try again in a moment."
    return Problem(LASTING, detail, headers={"Retry-After": "1"})
