"""How often something is used now."""

import math
import time
from collections.abc import Callable
from typing import Final

__all__ = ["UseRate"]

MEMORY_SECONDS: Final = 10.0
"""A use counts for a third (1/e) after so long."""


class UseRate:
    """Uses per second, as an exponentially decaying average."""

    __slots__ = ("_at", "_clock", "_count")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0.0
        self._at = clock()

    def count(self) -> None:
        now = self._clock()
        self._count = self._left(now) + 1
        self._at = now

    @property
    def per_second(self) -> float:
        return self._left(self._clock()) / MEMORY_SECONDS

    def _left(self, now: float) -> float:
        return self._count * math.exp((self._at - now) / MEMORY_SECONDS)
