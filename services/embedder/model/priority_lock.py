"""A lock for two kinds of callers: those somebody waits for go before bulk work."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

__all__ = ["PriorityLock"]


class PriorityLock:
    """One holder at a time, among threads; an urgent caller never waits behind a caller that is not.

    A plain lock is not enough: a thread that releases and takes it in a loop starves the others.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._held = False
        self.urgent_waiting = 0  # callers; to be read only

    @contextmanager
    def take(self, *, urgent: bool) -> Iterator[None]:
        with self._changed:
            self.urgent_waiting += urgent
            try:
                self._changed.wait_for(lambda: not self._held and (urgent or not self.urgent_waiting))
                self._held = True
            finally:
                self.urgent_waiting -= urgent
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()
