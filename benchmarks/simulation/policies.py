"""The ways to choose which replica serves a request.

What has no slot waits: in one shared queue (pull), in the replica's own queue (push), or with the router (push with a
bound).
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from benchmarks.simulation.cluster import Cluster, Job, Policy

__all__ = ["POLICIES"]

BACKOFF: Final = (0.025, 0.05, 0.1, 0.2, 0.4, 0.5)
"""Seconds between two looks of a router for a replica with room, as Ray Serve has them; the last one repeats."""

MOST_LOOKING: Final = 50
"""Requests for which Ray Serve's router looks for a replica at once; also at most two for each replica."""


class Random(Policy):
    """Any replica, by chance."""

    def choose(self) -> int:
        return int(self.cluster.random.random() * self.cluster.replicas)


class RoundRobin(Policy):
    """One after the other."""

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._next = -1

    def choose(self) -> int:
        self._next = (self._next + 1) % self.cluster.replicas
        return self._next


class TwoChoices(Policy):
    """The less loaded of two replicas taken by chance; their loads are known exactly."""

    def choose(self) -> int:
        cluster = self.cluster
        first = int(cluster.random.random() * cluster.replicas)
        second = int(cluster.random.random() * (cluster.replicas - 1))
        second += second >= first
        return first if cluster.loads[first] <= cluster.loads[second] else second


class LeastLoaded(Policy):
    """The least loaded of all replicas; their loads are known exactly."""

    def choose(self) -> int:
        return int(self.cluster.loads.argmin())


class ManyRouters(Policy):
    """The least loaded of all replicas, as one of several routers sees them: as they were at the last look of all
    routers, up to `stale` seconds ago, and what this router has sent since. Among equals each has its own order."""

    def __init__(self, routers: int, stale: float) -> None:
        self._routers = routers
        self._stale = stale

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._order = np.random.default_rng(cluster.seed)
        self._looked = float("-inf")

    def choose(self) -> int:
        cluster = self.cluster
        if cluster.env.now - self._looked >= self._stale:
            self._looked = cluster.env.now
            self._seen = cluster.loads + self._order.random((self._routers, cluster.replicas))
        seen = self._seen[int(cluster.random.random() * self._routers)]
        replica = int(seen.argmin())
        seen[replica] += 1
        return replica

    def grown(self, fresh: range) -> None:  # noqa: ARG002
        self._looked = float("-inf")


class BoundedTwoChoices(TwoChoices):
    """Two choices among replicas with a free slot. Where both are full the request stays with the router, which tries
    two others at once, and then again after a while: what the one router of Ray Serve 2.60 does, with
    `max_ongoing_requests` at the number of slots."""

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._waiting: deque[Job] = deque()
        self._looking = 0

    def accept(self, job: Job) -> None:
        self._waiting.append(job)
        if self._looking < min(MOST_LOOKING, 2 * self.cluster.replicas):
            self._looking += 1
            self._look_for_next()

    def _look_for_next(self) -> None:
        """Place waiting requests, the oldest first, until one finds no room and keeps this look busy."""
        while self._waiting:
            job = self._waiting.popleft()
            if not (self._place(job) or self._place(job)):
                self._back_off(job, 0)
                return
        self._looking -= 1

    def _place(self, job: Job) -> bool:
        cluster, replica = self.cluster, self.choose()
        if cluster.loads[replica] >= cluster.slots:
            return False
        cluster.loads[replica] += 1
        cluster.run(job, replica)
        return True

    def _back_off(self, job: Job, failures: int) -> None:
        event = self.cluster.env.timeout(BACKOFF[min(failures, len(BACKOFF) - 1)], (job, failures))
        event.callbacks.append(self._look_again)  # type: ignore[union-attr]

    def _look_again(self, event: Any) -> None:
        job, failures = event.value
        if self._place(job):
            self._look_for_next()
        else:
            self._back_off(job, failures + 1)

    def freed(self, replica: int) -> None:
        self.cluster.loads[replica] -= 1


class Pull(Policy):
    """One shared queue; a replica takes the oldest request whenever it has a free slot."""

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self.overhead = cluster.costs.hop
        self._waiting: deque[Job] = deque()
        self._free = [number for number in range(cluster.replicas) for _ in range(cluster.slots)]
        cluster.random.shuffle(self._free)

    def accept(self, job: Job) -> None:
        if self._free:
            self.cluster.run(job, self._free.pop())
        else:
            self._waiting.append(job)

    def freed(self, replica: int) -> None:
        if self._waiting:
            self.cluster.run(self._waiting.popleft(), replica, self.cluster.costs.fetch)
        else:
            self._free.append(replica)

    def died(self, replica: int, lost: list[Job]) -> None:
        for job in lost:
            event = self.cluster.env.timeout(self.cluster.costs.redelivery, job)
            event.callbacks.append(lambda event: self.accept_first(event.value))  # type: ignore[union-attr]
        for _ in lost:
            self.freed(replica)

    def accept_first(self, job: Job) -> None:
        """A redelivery goes before what came later."""
        if self._free:
            self.accept(job)
        else:
            self._waiting.appendleft(job)

    def grown(self, fresh: range) -> None:
        for replica in fresh:
            for _ in range(self.cluster.slots):
                self.freed(replica)


POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "pull": Pull,
    "bounded two choices": BoundedTwoChoices,
    "least loaded": LeastLoaded,
    "two choices": TwoChoices,
    "least loaded, 8 routers": lambda: ManyRouters(8, 0.1),
    "round robin": RoundRobin,
    "random": Random,
}
"""From the one that knows most at the latest time to the one that knows nothing."""
