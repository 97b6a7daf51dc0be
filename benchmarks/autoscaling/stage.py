"""One stage of the query path on a few cores: Pods that serve a shared queue, and Pods that start beside them.

Time runs in steps. Serving Pods and starting ones share the cores equally, each with one core at most; so cold starts
slow down the Pods that serve, and each other. All times are seconds.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.autoscaling.autoscaler import Autoscaler

__all__ = ["DEADLINE", "Costs", "Outcome", "simulate"]

STEP: Final = 0.05
SYNC: Final = 15.0
"""Between two looks of the autoscaler, as Kubernetes has it."""

SCRAPE: Final = 15.0
"""Between two values of the metric, as the usual Prometheus has it."""

DEADLINE: Final = 30.0
"""After which a query is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of one service, as measured: `work` is the CPU time of a query, `start` that of a start, `idle` what else a start
    waits for."""

    work: float
    start: float
    idle: float


@dataclass(slots=True)
class Outcome:
    """`pods` and `backlog` once a second. `waits` of the queries that were served, by the time of their arrival."""

    pods: list[int] = field(default_factory=list)
    backlog: list[int] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)
    missed: int = 0


@dataclass(slots=True)
class _Start:
    idle: float
    work: float


def simulate(
    autoscaler: Autoscaler,
    costs: Costs,
    arrivals: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    *,
    seconds: float,
    cores: float,
    phase: float,
    pause: tuple[float, float] | None = None,
) -> Outcome:
    """Run a stage from its least number of Pods. `arrivals` are sorted times; `phase` shifts the autoscaler's looks.

    While the broker pauses, from and until, nothing is served and the metric keeps its last value.
    """
    outcome = Outcome()
    queue: deque[float] = deque()
    coming = deque(arrivals.tolist())
    ready, starting = autoscaler.least, list[_Start]()
    metric, credit = 0.0, 0.0
    for tick in range(round(seconds / STEP)):
        now = tick * STEP
        paused = pause is not None and pause[0] <= now < pause[1]
        while coming and coming[0] <= now:
            queue.append(coming.popleft())
        while queue and now - queue[0] > DEADLINE:
            queue.popleft()
            outcome.missed += 1
        busy = [start for start in starting if start.idle <= 0]
        serving = 0.0 if paused else min(ready, len(queue) * costs.work / STEP)
        share = min(1.0, cores / max(serving + len(busy), 1e-9))
        credit = min(credit + serving * share * STEP / costs.work, float(len(queue) if not paused else 0))
        for _ in range(int(credit)):
            arrived = queue.popleft()
            outcome.waits.append((arrived, now - arrived))
        credit -= int(credit)
        for start in starting:
            start.idle -= STEP
        for start in busy:
            start.work -= share * STEP
        ready += sum(start.work <= 0 for start in starting)
        starting = [start for start in starting if start.work > 0]
        if not paused and _every(now, SCRAPE, phase / 2):
            metric = len(queue)
        if _every(now, SYNC, phase):
            pods = ready + len(starting)
            wanted = autoscaler.sync(now, metric, pods)
            starting += [_Start(costs.idle, costs.start) for _ in range(wanted - pods)]
            removed = max(0, pods - wanted)
            ready -= max(0, removed - len(starting))
            starting = starting[: max(0, len(starting) - removed)]
        if _every(now, 1.0, 0.0):
            outcome.pods.append(ready + len(starting))
            outcome.backlog.append(len(queue))
    return outcome


def _every(now: float, seconds: float, phase: float) -> bool:
    return (now - phase) % seconds < STEP - 1e-9 and now >= phase
