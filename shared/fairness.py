"""Sharing a bounded number of slots among tenants, so that none of them starves the others.

What counts is the time for which a tenant has held slots, over its weight: of the tenants that wait, the one that has
had least is next. That is start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996) with
the real cost of each piece of work, which is known at its end, instead of a guess before its start. A tenant that was
away has saved nothing: it begins where those are that hold slots.

One tenant alone may hold every slot. As work is not taken back, further slots are then kept `spare`: only a tenant that
holds none takes one of these, so a newcomer need not wait for the end of what others do.
"""

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["Clock", "FairShare", "FairSlots", "TooManyWaitError", "Weights", "parse_weights"]

Clock = Callable[[], float]

Weights = Mapping[str, float]
"""Tenants of another weight than 1."""

FEW: Final = 8
"""One in so many is few: those are looked at one by one, and else all in their order until one is among them."""

REMEMBERED: Final = 1000
"""Tenants without a slot whose account is kept before the first look for those that can be forgotten."""


class TooManyWaitError(Exception):
    """A tenant has as much waiting as it may."""


def parse_weights(text: str) -> dict[str, float]:
    """The weights in `acme=3,other=0.5`. Raises ValueError."""
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        tenant, found, weight = part.partition("=")
        try:
            weights[tenant.strip()] = float(weight)
        except ValueError:
            found = ""
        if not (found and tenant.strip() and 0.01 <= weights[tenant.strip()] <= 100):
            raise ValueError(f"{part!r} is not a tenant's weight; write acme=3, with a number from 0.01 to 100")
    return weights


@dataclass(slots=True)
class _Account:
    """Slot-seconds over weight, `held` slots now, the sum of the times at which these were taken, the last turn, and
    the number of the arrival among those that wait."""

    weight: float
    used: float = 0.0
    held: int = 0
    began: float = 0.0
    turn: int = 0
    arrival: int = 0

    @property
    def idle_key(self) -> tuple[float, int, int]:
        """The order of those that hold nothing: it stands still."""
        return self.used, self.turn, self.arrival

    def served(self, now: float) -> float:
        return self.used + (self.held * now - self.began) / self.weight


class FairShare:
    """Who may take one of `size` slots, and who is next. Pure: it does not wait, and knows nobody who does.

    All costs little, however many tenants wait.

    A tenant without a slot may also take one of `spare` further slots.
    """

    def __init__(
        self, size: int, *, spare: int = 0, weights: Weights | None = None, clock: Clock = time.monotonic
    ) -> None:
        self.size = size
        self.spare = spare
        self.taken = 0
        self._weights = weights or {}
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._holders: dict[str, _Account] = {}
        self._waiting: dict[str, _Account] = {}
        self._idle: list[tuple[tuple[float, int, int], str]] = []
        """A heap of those that wait and hold nothing, in their order, which stands still. Some no longer do."""
        self._arrivals = 0
        self._floor = 0.0
        self._turn = 0
        self._forget_at = REMEMBERED

    def free(self, tenant: str, *, reserved: int = 0) -> bool:
        """Whether the tenant may take a slot now, where `reserved` slots are kept from it."""
        room = self.size - reserved - self.taken
        return room > 0 or (room + self.spare > 0 and tenant not in self._holders)

    def next(self, *, reserved: int = 0, among: Set[str] | None = None) -> str | None:
        """The next of those that wait and may take a slot now, where `reserved` slots are kept from them; None where
        there is none. `among` are those to choose from, if not all."""
        room = self.size - reserved - self.taken
        found = []
        if room > 0:
            found = [name for name in self._holders if name in self._waiting and (among is None or name in among)]
        if room + self.spare > 0 and (idle := self._first_idle(among)) is not None:
            found.append(idle)
        return min(found, key=self.order(), default=None)

    def join(self, tenant: str) -> None:
        """Note that the tenant waits. Again is the same as once."""
        if tenant not in self._waiting:
            self._waiting[tenant] = account = self._holders.get(tenant) or self._arrive(tenant, self._clock())
            self._arrivals += 1
            account.arrival = self._arrivals
            if not account.held:
                self._note_idle(tenant, account)

    def leave(self, tenant: str) -> None:
        """Note that the tenant does not wait any more."""
        self._waiting.pop(tenant, None)

    def order(self) -> Callable[[str], tuple[float, float, int]]:
        """The order of the moment of those that wait, as a key to sort by: the least is next.

        It goes by time, then by slots that are held, then by the last turn.
        """
        now = self._clock()

        def key(tenant: str) -> tuple[float, float, int]:
            account = self._waiting[tenant]
            return account.used + (account.held * now - account.began) / account.weight, account.held, account.turn

        return key

    def take(self, tenant: str) -> float:
        """Note that the tenant takes a slot. Returns the time, which `give` wants back."""
        now = self._clock()
        account = self._holders.get(tenant) or self._waiting.get(tenant)
        if account is None:
            account = self._arrive(tenant, now)
        account.held += 1
        account.began += now
        self._turn += 1
        account.turn = self._turn
        self._holders[tenant] = account
        self.taken += 1
        return now

    def give(self, tenant: str, taken: float) -> None:
        """Note that a slot is free again which the tenant took at this time."""
        now = self._clock()
        self._least(now)
        account = self._holders[tenant]
        account.used += (now - taken) / account.weight
        account.held -= 1
        account.began -= taken
        self.taken -= 1
        if not account.held:
            account.began = 0.0
            del self._holders[tenant]
            if tenant in self._waiting:
                self._note_idle(tenant, account)

    def _arrive(self, tenant: str, now: float) -> _Account:
        """The account of a tenant that neither held nor waited: it begins where the others are, or behind them."""
        if (account := self._accounts.get(tenant)) is None:
            if len(self._accounts) >= self._forget_at:
                self._forget(now)
            account = self._accounts[tenant] = _Account(self._weights.get(tenant, 1.0))
        account.used += max(0.0, self._least(now) - account.served(now))
        return account

    def _forget(self, now: float) -> None:
        """Drop the accounts that say nothing: of tenants that are away, and would begin where newcomers do."""
        active = self._holders | self._waiting
        behind = {name: one for name, one in self._accounts.items() if one.served(now) > self._floor}
        self._accounts = behind | active
        self._forget_at = max(REMEMBERED, 2 * len(self._accounts))

    def _least(self, now: float) -> float:
        """The least time of those that hold or wait, and never less than before."""
        held = (one.used + (one.held * now - one.began) / one.weight for one in self._holders.values())
        least = min(held, default=math.inf)
        self._drop_gone()
        if self._idle:
            (used, _, _), _ = self._idle[0]
            least = min(least, used)
        if self._floor < least < math.inf:
            self._floor = least
        return self._floor

    def _first_idle(self, among: Set[str] | None) -> str | None:
        """The first of those that wait and hold nothing."""
        if among is not None and len(among) * FEW < len(self._waiting):
            idle = [name for name in among if name in self._waiting and name not in self._holders]
            return min(idle, key=lambda name: self._waiting[name].idle_key, default=None)
        passed = []
        self._drop_gone()
        while self._idle and among is not None and self._idle[0][1] not in among:
            passed.append(heapq.heappop(self._idle))
            self._drop_gone()
        first = self._idle[0][1] if self._idle else None
        for entry in passed:
            heapq.heappush(self._idle, entry)
        return first

    def _drop_gone(self) -> None:
        """Have one at the top of the heap that waits and holds nothing."""
        while self._idle:
            key, tenant = self._idle[0]
            account = self._waiting.get(tenant)
            if account is not None and not account.held and account.idle_key == key:
                return
            heapq.heappop(self._idle)

    def _note_idle(self, tenant: str, account: _Account) -> None:
        if len(self._idle) > REMEMBERED + 2 * len(self._waiting):
            self._idle = [(one.idle_key, name) for name, one in self._waiting.items() if not one.held]
            heapq.heapify(self._idle)
        heapq.heappush(self._idle, (account.idle_key, tenant))


class FairSlots:
    """Slots to wait for, in fair order. `most_waiting` of one tenant's may wait at once.

    async with slots.slot(tenant):
        ...
    """

    def __init__(self, share: FairShare, *, most_waiting: int | None = None) -> None:
        self._share = share
        self._most_waiting = most_waiting
        self._waiting: dict[str, deque[asyncio.Future[float]]] = {}
        self.waiting = 0

    @property
    def taken(self) -> int:
        return self._share.taken

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it within the block. Raises TooManyWaitError."""
        taken = await self.acquire(tenant)
        try:
            yield
        finally:
            self.release(tenant, taken)

    async def acquire(self, tenant: str) -> float:
        """Wait for a slot. Returns what `release` wants back. Raises TooManyWaitError."""
        if tenant not in self._waiting and self._share.free(tenant):
            # Whoever waits may not take what is free now: it is spare, and they hold something.
            return self._share.take(tenant)
        queue = self._waiting.get(tenant, deque())
        if self._most_waiting is not None and len(queue) >= self._most_waiting:
            raise TooManyWaitError
        self._waiting[tenant] = queue
        self._share.join(tenant)
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self.waiting += 1
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(tenant, turn.result())
            else:
                self._leave(tenant, turn)
            raise

    def release(self, tenant: str, taken: float) -> None:
        """Give a slot back, to whoever is next."""
        self._share.give(tenant, taken)
        while (following := self._share.next()) is not None:
            turn = self._waiting[following][0]
            if not turn.done():
                turn.set_result(self._share.take(following))
            self._leave(following, turn)

    def _leave(self, tenant: str, turn: asyncio.Future[float]) -> None:
        queue = self._waiting.get(tenant)
        if queue is not None and turn in queue:
            queue.remove(turn)
            self.waiting -= 1
            if not queue:
                del self._waiting[tenant]
                self._share.leave(tenant)
