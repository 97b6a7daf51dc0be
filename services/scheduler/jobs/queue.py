"""The job queue: which job runs next.

Every (kind, priority, tenant) is a subject with a consumer of its own. A free slot goes to the tenant whose jobs have
held slots for the least time; of one tenant's jobs the higher priority goes first. Nothing is taken that cannot be
worked on now.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from services.scheduler.jobs.kinds import JobKind, Pool
from shared.contracts.jobs import Priority
from shared.fairness import FairShare, Weights
from shared.nats.subjects import JOBS
from shared.runtime.delivery import Delivery, HeldDeliveries
from shared.runtime.worker import StageStatus
from shared.service.bus import Bus

__all__ = ["JobQueue"]

log = logging.getLogger(__name__)

LOOK: Final = 1.0
"""Seconds between two listings of what waits. A new job is noticed at once."""

ANSWER: Final = 5.0
"""Seconds for the broker to answer a request for one job."""

RANK: Final = {priority.value: rank for rank, priority in enumerate(Priority)}


class _Slots:
    """A pool's free and taken slots. A part of them is kept for jobs of high priority."""

    def __init__(self, size: int, spare: int, weights: Weights | None) -> None:
        self.share = FairShare(size, spare=spare, weights=weights)
        self._reserved = size // 4
        self._waiting: set[str] = set()

    def free(self, priority: str, tenant: str) -> bool:
        return self.share.free(tenant, reserved=0 if priority == Priority.HIGH else self._reserved)

    def order(self, waiting: set[str]) -> Callable[[str], tuple[float, float, int]]:
        """The order of the tenants that wait, as a key to sort by."""
        for tenant in waiting - self._waiting:
            self.share.join(tenant)
        for tenant in self._waiting - waiting:
            self.share.leave(tenant)
        self._waiting = waiting
        return self.share.order()


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
    ) -> None:
        self._bus = bus
        self._kinds = kinds
        self._give_back = give_back
        self._slots = {pool: _Slots(size, spare, weights) for pool, size in slots.items()}
        self._ack_wait = ack_wait
        self._subjects: set[str] = set()
        self._dry: set[str] = set()
        self._consumers: dict[str, str] = {}
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
        self._consumers.clear()
        self._dry.clear()
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
                if delivery is None:
                    self._dry.add(subject)
                else:
                    self._start(delivery)

    def _next(self) -> str | None:
        """The subject to take from: of the tenant that has had least, the highest priority with a free slot."""
        waiting = self._subjects - self._dry
        tenants: dict[Pool, set[str]] = {pool: set() for pool in self._slots}
        for subject in waiting:
            tenants[self._pool(subject)].add(subject.rpartition(".")[2])
        shares = {pool: slots.order(tenants[pool]) for pool, slots in self._slots.items()}
        candidates = [subject for subject in waiting if self._has_slot(subject)]
        if not candidates:
            return None

        def order(subject: str) -> tuple[float, float, int, float, int, float]:
            _, _, priority, tenant = subject.split(".")
            turns = self._turns.get(tenant, 0.0), RANK[priority], self._turns.get(subject, 0.0)
            return *shares[self._pool(subject)](tenant), *turns

        return min(candidates, key=order)

    def _has_slot(self, subject: str) -> bool:
        _, _, priority, tenant = subject.split(".")
        return self._slots[self._pool(subject)].free(priority, tenant)

    def _pool(self, subject: str) -> Pool:
        return self._kinds[subject.split(".")[1]].pool

    async def _take(self, subject: str) -> Delivery | None:
        """One job of a subject; None where none waits."""
        if subject not in self._consumers:
            self._consumers[subject] = await self._bus.topology.ensure_job_consumer(subject)
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
            self._consumers.pop(subject, None)
        else:
            _, _, _, tenant = subject.split(".")
            self._turns[tenant] = self._turns[subject] = time.monotonic()
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
        self._learn(message.subject)

    def _learn(self, subject: str) -> None:
        _, kind, priority, _ = subject.split(".")
        if kind in self._kinds and priority in RANK:
            self._subjects.add(subject)
            self._dry.discard(subject)
            self._wake.set()

    async def _look(self) -> None:
        """List what waits: also what came back, and what was stored before this process subscribed."""
        while True:
            if self._bus.connected:
                try:
                    info = await self._bus.jetstream.stream_info(JOBS, subjects_filter="job.*.*.*")
                except NotFoundError:
                    await self._bus.topology.ensure()
                except (NatsError, TimeoutError, OSError) as error:
                    log.warning("cannot look at the job queue: %r", error)
                else:
                    self._subjects.intersection_update(info.state.subjects or {})
                    for subject in info.state.subjects or {}:
                        self._learn(subject)
            await asyncio.sleep(LOOK)

    def _start(self, delivery: Delivery) -> None:
        share = self._slots[self._pool(delivery.subject)].share
        self._taken_at[id(delivery)] = share.take(_tenant(delivery))
        self._held.start(self._tasks, delivery)

    def _let_go(self, delivery: Delivery) -> None:
        self._slots[self._pool(delivery.subject)].share.give(_tenant(delivery), self._taken_at.pop(id(delivery)))
        self._wake.set()


def _tenant(delivery: Delivery) -> str:
    return delivery.subject.rpartition(".")[2]
