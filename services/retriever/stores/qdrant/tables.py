"""The states of tables: read by everybody, changed by one at a time.

A state is the payload of one point, so it changes in one step. Each change bears a stamp of its own and is made only
where the state still has the stamp that was read; reading the state again tells whether it was. That needs no clock
that processes share, and may be repeated where an answer is lost.
"""

import asyncio
import logging
import random
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from qdrant_client import models

from services.retriever.stores.qdrant.connection import AbsentError, Connection
from services.retriever.stores.qdrant.layout import NAME, STAMP, STATE, Layout
from services.retriever.stores.qdrant.state import Lease, TableState
from services.retriever.stores.qdrant.view import equals
from shared.contracts.problems import Problem, ProblemType

__all__ = ["LostLeaseError", "Tables", "Turn"]

log = logging.getLogger(__name__)

ATTEMPTS: Final = 8
"""Changes of a state that are begun anew because another one came first."""

LEASE_SECONDS: Final = 45.0
"""Without a sign of life after which a writer counts as gone."""
BEAT_SECONDS: Final = 5.0
"""Between two signs of life. They come before a request, which ends in thirty seconds with all its tries."""
WAIT_SECONDS: Final = 90.0
"""How long a writer waits for the others."""
POLLED_SECONDS: Final = 0.02, 0.5
"""Between two looks at who writes: at first, and at most."""
RELEASE_SECONDS: Final = 5.0
"""For giving a lease back after a failure or a cancellation. What is not given back runs out."""

MOST_GIVEN_UP: Final = 1_000
"""Commits of a table that did not end, in the time for which they are remembered."""

LOST: Final = "another process has taken the place of this one as the writer of the index's table"

KEPT: Final = 4_096
"""States of tables that are kept for the next reading."""
FORGOTTEN_SECONDS: Final = 60.0
"""In which every reading ends that was under way when a state was forgotten."""

_NAMESPACE: Final = uuid.UUID("5f1d3c52-6f0e-4c52-9d55-0b3a2f6f7f5d")


class LostLeaseError(RuntimeError):
    """Another writer has taken this one for gone. What it has written does not count."""


class _CountsAlreadyError(Exception):
    """What was to be committed is."""


@dataclass(slots=True)
class Turn:
    """The time in which one writer alone writes a table. `state` is from its beginning.

    `staged` is whether anything may have been written, `ended` whether the lease is gone.
    """

    state: TableState
    lease: Lease
    staged: bool = False
    ended: bool = False
    beaten: float = field(default_factory=time.monotonic)

    def holds(self, state: TableState) -> bool:
        """Whether a later state of the table still has this turn's lease."""
        return state.lease is not None and state.lease.token == self.lease.token


@dataclass(frozen=True, slots=True)
class _Stamped:
    stamp: str
    state: TableState


class Tables:
    """The states of the tables of one index, for one event loop.

    What other processes have changed is seen after `freshness` seconds, what this one has changed at once.
    """

    def __init__(
        self, connection: Connection, layout: Layout, *, freshness: float, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._freshness = freshness
        self._lease_seconds = lease_seconds
        self._holder = uuid.uuid4().hex
        self._kept: OrderedDict[str, tuple[float, TableState | None]] = OrderedDict()
        self._forgotten: dict[str, float] = {}
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, name: str, *, anew: bool = False) -> TableState | None:
        """The state of a table, None where it is absent or dropped."""
        known, now = self._kept.get(name), time.monotonic()
        if known is not None and not anew and now < known[0] + self._freshness:
            state = known[1]
        else:
            found = await self._read(name)
            state = found.state if found is not None else None
            self._keep(name, state, now)
        return None if state is None or state.dropped else state

    async def change(self, name: str, change: Callable[[TableState], TableState]) -> TableState:
        """Change the state of a table that is there. What `change` raises is raised."""
        for _ in range(ATTEMPTS):
            found = await self._read(name)
            if found is None:
                raise LostLeaseError(f"the table {name} is gone")
            state = change(found.state)
            if await self._write(name, state, models.Filter(must=[equals(STAMP, found.stamp)])):
                self._keep(name, state, time.monotonic())
                return state
        raise _busy()

    async def make(self, name: str, made: TableState) -> None:
        """Put the state of a table that is absent there, unless another process is the first to."""
        await self._layout.make(made.dimension)
        await self._write(name, made, None)
        self.forget(name)

    @asynccontextmanager
    async def leased(self, name: str) -> AsyncIterator[Turn | None]:
        """Be the one who writes a table. None where it is absent.

        A turn that is not committed in the block changes nothing that a reader sees.
        """
        async with self._writing[name]:
            turn = await self._lease(name)
            try:
                yield turn
            finally:
                if turn is not None and not turn.ended:
                    await self._release(name, turn)

    async def commit(self, name: str, turn: Turn, change: Callable[[TableState], TableState]) -> None:
        """Have all count that was written in this turn, which ends with it, and change the state besides.

        Raises LostLeaseError where another writer has taken the turn. After any other error it may count or not.
        """
        number = turn.lease.commit
        turn.ended = True
        self.forget(name)

        def count(state: TableState) -> TableState:
            if not turn.holds(state):
                if state.version >= number and number not in state.given_up:
                    raise _CountsAlreadyError
                raise LostLeaseError(LOST)
            return change(state).model_copy(update={"lease": None, "version": number})

        try:
            await self.change(name, count)
        except _CountsAlreadyError:
            # Another writer came before this one could read what it had written.
            self.forget(name)
        except BaseException:
            turn.ended = False
            raise

    async def beat(self, name: str, turn: Turn) -> None:
        """Give a sign of life before something is written. Raises LostLeaseError."""
        turn.staged = True
        now = time.monotonic()
        if now < turn.beaten + BEAT_SECONDS:
            return
        turn.beaten = now

        def renew(state: TableState) -> TableState:
            if state.lease is None or not turn.holds(state):
                raise LostLeaseError(LOST)
            lease = state.lease.model_copy(update={"beat": state.lease.beat + 1})
            return state.model_copy(update={"lease": lease})

        await self.change(name, renew)

    async def remove(self, name: str) -> None:
        """Remove the state of a table that is dropped."""
        point = _point_id(name)
        found = await self._read(name)
        if found is not None and found.state.dropped:
            condition = models.Filter(must=[models.HasIdCondition(has_id=[point]), equals(STAMP, found.stamp)])
            await self._connection.call(
                lambda client: client.delete(
                    self._layout.tables,
                    points_selector=models.FilterSelector(filter=condition),
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                )
            )
        self.forget(name)

    async def dropped(self, name: str) -> TableState | None:
        """The state of a table that is dropped and not removed yet."""
        found = await self._read(name)
        return found.state if found is not None and found.state.dropped else None

    def forget(self, name: str) -> None:
        """Read the state anew at the next look; what is being read now does not count."""
        self._kept.pop(name, None)
        self._forgotten[name] = time.monotonic()

    async def _lease(self, name: str) -> Turn | None:
        """Take the lease as soon as no other writer has it. Raises Problem INDEX_UNAVAILABLE after a while."""
        token, until = uuid.uuid4().hex, time.monotonic() + WAIT_SECONDS
        seen: tuple[str, int] | None = None
        seen_at, pause = 0.0, POLLED_SECONDS[0]
        while True:
            found = await self._read(name)
            if found is None:
                self._keep(name, None, time.monotonic())
                return None
            lease, now = found.state.lease, time.monotonic()
            if lease is not None and seen != (lease.token, lease.beat):
                seen, seen_at = (lease.token, lease.beat), now
            # In this process nobody else writes now: a lease of its own is left over.
            free = lease is None or lease.holder == self._holder or now >= seen_at + self._lease_seconds
            if free:
                if lease is not None and lease.holder != self._holder:
                    log.warning("the writer of the table %s is gone; its last commit is given up", name)
                mine = Lease(holder=self._holder, token=token, commit=found.state.next)
                taken = _taken(found.state, mine)
                if await self._write(name, taken, models.Filter(must=[equals(STAMP, found.stamp)])):
                    return Turn(taken, mine)
            elif now >= until:
                raise _busy()
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311
            pause = min(2 * pause, POLLED_SECONDS[1])

    async def _release(self, name: str, turn: Turn) -> None:
        """Give back a lease, without its commit."""

        def release(state: TableState) -> TableState:
            if not turn.holds(state):
                raise LostLeaseError(LOST)
            return _given_up(state) if turn.staged else state.model_copy(update={"lease": None})

        self.forget(name)
        # The caller may be cancelled already, and the others would wait for the lease to run out.
        task = asyncio.create_task(self.change(name, release))
        try:
            await asyncio.wait([task], timeout=RELEASE_SECONDS)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.forget(name)

    async def _read(self, name: str) -> _Stamped | None:
        await self._layout.make_tables()
        try:
            points = await self._connection.call(
                lambda client: client.retrieve(
                    self._layout.tables,
                    [_point_id(name)],
                    with_payload=True,
                    consistency=models.ReadConsistencyType.MAJORITY,
                )
            )
        except AbsentError:
            self._layout.forget()
            return None
        if not points or not points[0].payload:
            return None
        payload = points[0].payload
        return _Stamped(payload[STAMP], TableState.model_validate(payload[STATE]))

    async def _write(self, name: str, state: TableState, condition: models.Filter | None) -> bool:
        """Write a state where the condition holds of the one that is there, or where none is. Whether it was written.

        Raises Problem INDEX_UNAVAILABLE; then it may be written or not.
        """
        stamp = uuid.uuid4().hex
        payload = {NAME: name, STAMP: stamp, STATE: state.model_dump(mode="json")}
        point = models.PointStruct(id=_point_id(name), vector={}, payload=payload)
        mode = models.UpdateMode.INSERT_ONLY if condition is None else models.UpdateMode.UPDATE_ONLY
        await self._connection.call(
            lambda client: client.upsert(
                self._layout.tables,
                [point],
                wait=True,
                ordering=models.WriteOrdering.STRONG,
                update_filter=condition,
                update_mode=mode,
            )
        )
        written = await self._read(name)
        return written is not None and written.stamp == stamp

    def _keep(self, name: str, state: TableState | None, read: float) -> None:
        """Keep a state that was read at this time or later, unless this process has changed it since."""
        known = self._kept.get(name)
        if read < self._forgotten.get(name, 0.0) or (known is not None and read < known[0]):
            return
        self._kept[name] = (read, state)
        self._kept.move_to_end(name)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        if len(self._forgotten) > KEPT:
            before = read - FORGOTTEN_SECONDS
            self._forgotten = {name: at for name, at in self._forgotten.items() if at > before}


def _taken(state: TableState, lease: Lease) -> TableState:
    free = _given_up(state)
    if len(free.given_up) > MOST_GIVEN_UP:
        detail = "Too many changes of this collection's index have failed. Wait ten minutes, and try again."
        raise Problem(ProblemType.INDEX_UNAVAILABLE, detail)
    return free.model_copy(update={"lease": lease, "next": lease.commit + 1})


def _given_up(state: TableState) -> TableState:
    """The state without its lease, whose commit does not count."""
    if state.lease is None:
        return state
    given_up = {**state.given_up, state.lease.commit: time.time()}
    return state.model_copy(update={"lease": None, "given_up": given_up})


def _busy() -> Problem:
    detail = "Other processes write this collection's index all the time. The change is tried again."
    return Problem(ProblemType.INDEX_UNAVAILABLE, detail)


def _point_id(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))
