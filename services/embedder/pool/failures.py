"""Models that could not be loaded, each with the time before which it is not tried again."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from shared.contracts.problems import Problem, ProblemType

__all__ = ["Failures"]

K = TypeVar("K")

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds before the second try, twice as many before each further one, and at most."""

REMEMBERED: Final = 1000

FLEETING: Final = frozenset({ProblemType.BROKER_UNAVAILABLE})
"""Problems that say nothing of a model."""


@dataclass(frozen=True, slots=True)
class _Failure:
    problem: Problem
    pause: float
    until: float


class Failures(Generic[K]):
    """For one event loop. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[K, _Failure] = OrderedDict()

    def check(self, key: K) -> None:
        """Raises the Problem of the last try while it is too early for another one."""
        failure = self._known.get(key)
        if failure is not None and self._clock() < failure.until:
            raise Problem(failure.problem.kind, failure.problem.detail)

    def add(self, key: K, problem: Problem) -> None:
        if problem.kind in FLEETING:
            return
        known = self._known.pop(key, None)
        pause = FIRST_PAUSE if known is None else min(2 * known.pause, LONGEST_PAUSE)
        self._known[key] = _Failure(problem, pause, self._clock() + pause)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, key: K) -> None:
        self._known.pop(key, None)
