"""How CPU time and memory grow with the size of an input: ratios, which say the same on every machine."""

import gc
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["LINEAR", "Growth", "growth", "seconds"]

LINEAR = 25.0
"""Ten times the input may cost this many times as much: ten where it is linear, a hundred where it is quadratic."""

LEAST_SECONDS = 2e-3
LEAST_BYTES = 256 * 1024
"""Below these, what is measured is noise and not the input; the smaller input counts as at least so much."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How many times as much CPU time and peak memory ten times the input takes."""

    time: float
    memory: float

    @property
    def is_linear(self) -> bool:
        return self.time < LINEAR and self.memory < LINEAR


def growth(work: Callable[[int], object], size: int, *, repeat: int = 3) -> Growth:
    """Compare `work(10 * size)` with `work(size)`, of each the best of several runs."""
    gc.collect()
    gc.freeze()  # the collections below go through what the work leaves, and not through what was there before
    small, large = seconds(work, size, repeat=repeat), seconds(work, 10 * size, repeat=repeat)
    few, many = _peak(work, size), _peak(work, 10 * size)
    return Growth(time=large / max(small, LEAST_SECONDS), memory=many / max(few, LEAST_BYTES))


def seconds(work: Callable[[int], object], size: int, *, repeat: int = 3) -> float:
    """The CPU time of this process that the work takes at best."""
    best = float("inf")
    for _ in range(repeat):
        gc.collect()
        began = time.process_time()
        work(size)
        best = min(best, time.process_time() - began)
    return best


def _peak(work: Callable[[int], object], size: int) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        work(size)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
