"""The job queue: which job runs next.

Every (kind, priority, tenant) is a subject with a consumer of its own, for as long as there is a job on it. A free slot
goes to the tenant whose jobs have held slots for the least time; of one tenant's jobs the higher priority goes first.
Nothing is taken that cannot be worked on now.

The consumers of short kinds are in the broker's memory. One that does not survive a restart of a single broker delivers
what is in work once more: the process that has the job puts it back, and in another one it runs a second time.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from contextlib import suppress
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from services.scheduler.jobs.kinds import JobKind, Pool
from shared.contracts.jobs import Priority
from shared.fairness import Clock, FairShare, Weights
from shared.nats.subjects import JOBS
from shared.nats.topology import job_consumer
from shared.runtime.delivery import Delivery, HeldDeliveries
from shared.runtime.worker import StageStatus
from shared.service.bus import Bus

__all__ = ["JobQueue"]

log = logging.getLogger(__name__)

LOOK: Final = 1.0
SHARE: Final = 10.0
"""Seconds between two listings of what waits, and how many times as long as one takes at least. A new job is noticed
at once."""

ANSWER: Final = 5.0
"""Seconds for the broker to answer a request for one job."""

RANK: Final = {priority.value: rank for rank, priority in enumerate(Priority)}


class _Slots:
    """A pool's free and taken slots, and the subjects that wait for one. A part of the slots is kept for jobs of high
    priority.

    A subject waits that was not found empty since it was last seen to hold a job.
    """

    def __init__(self, size: int, spare: int, weights: Weights | None, clock: Clock) -> None:
        self.share = FairShare(size, spare=spare, weights=weights, clock=clock)
        self._reserved = size // 4
        self._waiting: dict[str, set[str]] = {}
        """The subjects by tenant."""
        self._urgent: set[str] = set()
        """Tenants with a subject of high priority."""

    def add(self, subject: str) -> None:
        """Note that a subject waits from now on: of tenants, who comes first is before who comes later."""
        _, _, priority, tenant = subject.split(".")
        self._waiting.setdefault(tenant, set()).add(subject)
        if priority == Priority.HIGH:
            self._urgent.add(tenant)
        self.share.join(tenant)

    def remove(self, subject: str) -> None:
        tenant = _tenant_of(subject)
        subjects = self._waiting.get(tenant, set())
        subjects.discard(subject)
        if not any(_is_urgent(each) for each in subjects):
            self._urgent.discard(tenant)
        if not subjects:
            self._waiting.pop(tenant, None)
            self.share.leave(tenant)

    def keep(self, subjects: Set[str]) -> None:
        """Forget all but these."""
        gone = [each for waiting in self._waiting.values() for each in waiting if each not in subjects]
        for subject in gone:
            self.remove(subject)

    def next(self, turns: Mapping[str, float]) -> tuple[tuple[float, float, int, int], str] | None:
        """The subject whose turn is next, with its place in the order. `turns` are the last ones of subjects.

        What it costs does not depend on how many wait.
        """
        found = [self.share.next(among=self._urgent), self.share.next(reserved=self._reserved)]
        tenants = [tenant for tenant in found if tenant is not None]
        if not tenants:
            return None
        order = self.share.order()
        tenant = min(tenants, key=order)
        reserved = self._reserved
        subjects = [
            each
            for each in self._waiting[tenant]
            if self.share.free(tenant, reserved=0 if _is_urgent(each) else reserved)
        ]
        subject = min(subjects, key=lambda each: (_rank_of(each), turns.get(each, 0.0)))
        return (*order(tenant), _rank_of(subject)), subject


class JobQueue:
    """A `shared.service.service.Worker` that hands each job to `handle`, in a task of its own.

    `handle` settles the delivery; one that it leaves unsettled goes back. `give_back` is called with each job that
    goes back unharmed because the worker stops. Of each pool, `spare` slots more than its `slots` are for tenants that
    have no job in work there.
    """

    def __init__(
        self,
        bus: Bus,
        kinds: Mapping[str, JobKind],
        *,
        handle: Callable[[Delivery], Awaitable[None]],
        give_back: Callable[[str, str], Awaitable[None]],
        slots: Mapping[Pool, int],
        ack_wait: float,
        spare: int = 0,
        weights: Weights | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._kinds = kinds
        self._give_back = give_back
        self._slots = {pool: _Slots(size, spare, weights, clock) for pool, size in slots.items()}
        self._ack_wait = ack_wait
        self._subjects: set[str] = set()
        """Those that hold jobs, waiting or in work."""
        self._consumers: dict[str, str] = {}
        self._unused: set[str] = set()
        """Subjects whose consumers were found empty."""
        self._told: set[str] = set()
        """Subjects that have got a job since the last listing began."""
        self._turns: dict[str, float] = {}
        self._taken_at: dict[int, float] = {}
        self._held = HeldDeliveries(handle, self._let_go, name="the job queue")
        self._asked: asyncio.Future[Delivery | None] | None = None
        self._requests = 0
        self._wake = asyncio.Event()
        self._draining = False
        self._inbox: Subscription | None = None
        self._notifier: Subscription | None = None

    @property
    def pulling(self) -> bool:
        return self._inbox is not None and not self._draining

    @property
    def statuses(self) -> list[StageStatus]:
        return [
            StageStatus(stage="jobs", variant=pool, in_flight={"batch": slots.share.taken}, room=slots.share.size)
            for pool, slots in self._slots.items()
        ]

    async def run(self) -> None:
        """Take jobs until cancelled. Cancelling gives back what is in work."""
        await self.reset()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._dispatch())
            tasks.create_task(self._look())
            tasks.create_task(self._held.keep_alive(self._bus.client, self._ack_wait))

    async def probe(self) -> None:
        """The stream of jobs is there and answers."""
        await self._bus.jetstream.stream_info(JOBS)

    async def reset(self) -> None:
        """Start afresh on the connection."""
        client = self._bus.client
        for subscription in (self._inbox, self._notifier):
            if subscription is not None:
                with suppress(NatsError, OSError):
                    await subscription.unsubscribe()
        self._answer(None)
        self._prefix = client.new_inbox()
        self._inbox = await client.subscribe(f"{self._prefix}.*", cb=self._receive)
        # What is stored on the queue arrives here as well, so new jobs are noticed at no cost.
        self._notifier = await client.subscribe("job.*.*.*", cb=self._on_job_stored)
        self._unused |= self._consumers.keys()
        self._consumers.clear()
        for subject in self._subjects:
            self._slots[self._pool(subject)].add(subject)
        self._wake.set()

    async def drain(self, grace: float) -> None:
        """Take no more jobs. Long ones go back at once, short ones may finish within `grace` seconds."""
        self._draining = True
        long = [task for task, held in self._held.by_task.items() if self._pool(held.subject) is not Pool.SHORT]
        await self._return(long)
        try:
            async with asyncio.timeout(grace):
                await self._held.idle()
        except TimeoutError:
            await self._return(list(self._held.by_task))

    async def _return(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            delivery = self._held.by_task.get(task)
            if delivery is None or delivery.settled:
                continue
            job, tenant = delivery.headers.get("ce-id"), delivery.headers.get("ce-tenant")
            with suppress(NatsError, TimeoutError):
                await self._give_back(job or f"s{delivery.sequence}", tenant or delivery.subject.rpartition(".")[2])
            await delivery.nak()
        await self._held.cancel(tasks)

    async def _dispatch(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._draining and (subject := self._next()) is not None:
                try:
                    delivery = await self._take(subject)
                except (NatsError, TimeoutError, OSError) as error:
                    log.warning("cannot take jobs from %s: %r", subject, error)
                    delivery = None
                if delivery is not None:
                    self._start(delivery)
                if delivery is None or not delivery.waiting:
                    self._slots[self._pool(subject)].remove(subject)

    def _next(self) -> str | None:
        """The subject to take from: of the tenant that has had least, the highest priority with a free slot."""
        found = [each for slots in self._slots.values() if (each := slots.next(self._turns)) is not None]
        return min(found)[1] if found else None

    def _pool(self, subject: str) -> Pool:
        return self._kinds[subject.split(".")[1]].pool

    async def _take(self, subject: str) -> Delivery | None:
        """One job of a subject; None where none waits."""
        if subject not in self._consumers:
            lasting = self._pool(subject) is not Pool.SHORT
            self._consumers[subject] = await self._bus.topology.ensure_job_consumer(subject, lasting=lasting)
            self._unused.discard(subject)
        self._requests += 1
        self._asked = asyncio.get_running_loop().create_future()
        request = json.dumps({"batch": 1, "no_wait": True}).encode()
        next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{self._consumers[subject]}"
        try:
            await self._bus.client.publish(next_subject, request, reply=f"{self._prefix}.{self._requests}")
            async with asyncio.timeout(ANSWER):
                delivery = await self._asked
        finally:
            self._asked = None
        if delivery is None:
            # The consumer may have gone for want of use; then the next look makes it again.
            if self._consumers.pop(subject, None):
                self._unused.add(subject)
        else:
            self._turns[subject] = self._clock()
        return delivery

    async def _receive(self, message: Msg) -> None:
        """A job comes with its own subject, and a status with that of its request."""
        if message.reply:
            delivery = Delivery(self._bus.client, message)
            if self._draining or not self._answer(delivery):
                await delivery.nak()  # it comes too late
        elif message.subject == f"{self._prefix}.{self._requests}":
            self._answer(None)

    def _answer(self, delivery: Delivery | None) -> bool:
        if self._asked is None or self._asked.done():
            return False
        self._asked.set_result(delivery)
        return True

    async def _on_job_stored(self, message: Msg) -> None:
        self._told.add(message.subject)
        self._learn(message.subject)

    def _learn(self, subject: str) -> None:
        _, kind, priority, _ = subject.split(".")
        if kind in self._kinds and priority in RANK:
            self._subjects.add(subject)
            self._slots[self._pool(subject)].add(subject)
            self._wake.set()

    async def _look(self) -> None:
        """List what waits: also what came back, and what was stored before this process subscribed."""
        while True:
            began = time.monotonic()
            if self._bus.connected:
                self._told.clear()
                try:
                    info = await self._bus.jetstream.stream_info(JOBS, subjects_filter="job.*.*.*")
                except NotFoundError:
                    await self._bus.topology.ensure()
                except (NatsError, TimeoutError, OSError) as error:
                    log.warning("cannot look at the job queue: %r", error)
                else:
                    self._note(info.state.subjects or {})
                    await self._remove_consumers()
            await asyncio.sleep(max(LOOK, SHARE * (time.monotonic() - began)))

    def _note(self, listed: Mapping[str, int]) -> None:
        """Take in which subjects hold jobs."""
        self._subjects &= listed.keys() | self._told
        self._turns = {subject: turn for subject, turn in self._turns.items() if subject in self._subjects}
        for slots in self._slots.values():
            slots.keep(self._subjects)
        for subject in listed:
            self._learn(subject)

    async def _remove_consumers(self) -> None:
        """Have the broker forget the consumers of subjects without a job: each takes some 46 kB of its memory.

        As a job stays on the queue until it has ended, nobody has one of these in work.
        """
        for subject in [each for each in self._consumers if each not in self._subjects]:
            del self._consumers[subject]
            self._unused.add(subject)
        for subject in self._unused - self._subjects - self._told:
            self._unused.remove(subject)
            with suppress(NatsError, OSError):
                # Nobody waits for the answer: one that stays goes by itself after a while.
                await self._bus.client.publish(f"$JS.API.CONSUMER.DELETE.{JOBS}.{job_consumer(subject)}")

    def _start(self, delivery: Delivery) -> None:
        share = self._slots[self._pool(delivery.subject)].share
        self._taken_at[id(delivery)] = share.take(_tenant(delivery))
        self._held.start(self._tasks, delivery)

    def _let_go(self, delivery: Delivery) -> None:
        self._slots[self._pool(delivery.subject)].share.give(_tenant(delivery), self._taken_at.pop(id(delivery)))
        self._wake.set()


def _tenant(delivery: Delivery) -> str:
    return _tenant_of(delivery.subject)


def _tenant_of(subject: str) -> str:
    return subject.rpartition(".")[2]


def _rank_of(subject: str) -> int:
    return RANK[subject.split(".")[2]]


def _is_urgent(subject: str) -> bool:
    return _rank_of(subject) == RANK[Priority.HIGH]
