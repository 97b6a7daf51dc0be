"""A cluster of GPU replicas in SimPy. Which of them serves a request is for a policy to say.

A replica serves `slots` requests at once, each at its full speed. Times are seconds.
"""

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import simpy

__all__ = ["Cluster", "Costs", "Job", "Policy"]

NOBODY: Final = -1


@dataclass(slots=True, eq=False)
class Job:
    """One request. `work` is its time at full speed; `replica` holds it now; `tries` counts how often it began anew."""

    arrived: float
    work: float
    started: float = -1.0
    ended: float = -1.0
    replica: int = NOBODY
    tries: int = 1
    hit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What pull pays: `hop` for the way over the broker, `fetch` between the end of one request and the next one's
    start in the same slot, `redelivery` until the broker gives work of a dead replica to another."""

    hop: float = 0.0
    fetch: float = 0.0
    redelivery: float = 5.0


@dataclass
class Cluster:
    """Replicas, and the jobs that they hold. A policy says where a job goes."""

    env: simpy.Environment
    policy: "Policy"
    replicas: int
    slots: int
    seed: int
    costs: Costs = field(default_factory=Costs)
    slow: frozenset[int] = frozenset()
    done: list[Job] = field(default_factory=list)
    wasted: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.loads = np.zeros(self.replicas, dtype=np.int64)
        self.running: list[set[Job]] = [set() for _ in range(self.replicas)]
        self.queues: list[deque[Job]] = [deque() for _ in range(self.replicas)]
        self.speeds = [0.5 if number in self.slow else 1.0 for number in range(self.replicas)]
        self.policy.begin(self)

    def submit(self, jobs: Iterable[Job]) -> None:
        """Let jobs arrive at their times, which go up."""
        self.env.process(self._arrive(jobs))

    def _arrive(self, jobs: Iterable[Job]) -> Any:
        env, accept = self.env, self.policy.accept
        for job in jobs:
            yield env.timeout(job.arrived - env.now)
            accept(job)

    def run(self, job: Job, replica: int, pause: float = 0.0) -> None:
        """Begin a job in a free slot, which has to wait `pause` seconds for it."""
        job.replica = replica
        job.started = self.env.now + pause
        self.running[replica].add(job)
        event = self.env.timeout(pause + job.work / self.speeds[replica], (job, job.tries))
        event.callbacks.append(self._end)  # type: ignore[union-attr]

    def _end(self, event: Any) -> None:
        job, tries = event.value
        if job.tries != tries:
            return  # its replica died meanwhile
        job.ended = self.env.now
        replica = job.replica
        self.running[replica].remove(job)
        self.done.append(job)
        self.policy.freed(replica)

    def kill(self, number: int) -> None:
        """A replica dies with all that it holds, and a fresh one takes its place at once.

        Callers whose requests it held send them again at once, which is kind to push: many callers do not.
        """
        lost = [*self.running[number], *self.queues[number]]
        for job in self.running[number]:
            self.wasted += max(0.0, self.env.now - job.started)
        self.running[number].clear()
        self.queues[number].clear()
        self.loads[number] = 0
        for job in lost:
            job.tries += 1
            job.hit = True
            job.replica, job.started = NOBODY, -1.0
        self.policy.died(number, lost)

    def grow(self, more: int) -> None:
        """Add replicas, empty and ready."""
        fresh = range(self.replicas, self.replicas + more)
        self.replicas += more
        self.loads = np.concatenate([self.loads, np.zeros(more, dtype=np.int64)])
        for _ in fresh:
            self.running.append(set())
            self.queues.append(deque())
            self.speeds.append(1.0)
        self.policy.grown(fresh)


class Policy:
    """Chooses a replica as soon as a request arrives: it waits in that replica's queue. Subclasses say which one."""

    overhead = 0.0
    """Seconds that each request pays before anything else."""

    def begin(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def choose(self) -> int:
        raise NotImplementedError

    def accept(self, job: Job) -> None:
        cluster, replica = self.cluster, self.choose()
        if cluster.loads[replica] < cluster.slots:
            cluster.run(job, replica)
        else:
            job.replica = replica
            cluster.queues[replica].append(job)
        cluster.loads[replica] += 1

    def freed(self, replica: int) -> None:
        cluster = self.cluster
        cluster.loads[replica] -= 1
        if cluster.queues[replica]:
            cluster.run(cluster.queues[replica].popleft(), replica)

    def died(self, replica: int, lost: list[Job]) -> None:  # noqa: ARG002
        for job in lost:
            self.accept(job)

    def grown(self, fresh: range) -> None:
        """New replicas are chosen like the others from now on."""
