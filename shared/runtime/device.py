"""A device that several work on at once, and each one's share of its time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.telemetry.metrics import DEVICE_TIME, tenants

__all__ = ["SharedDevice"]


class SharedDevice:
    """Counts each tenant's share of a stage's device: two who use it for the same second have half a second each.

    Processor sharing (Kleinrock, 1967): one clock goes on by 1/n seconds a second while n use the device.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._users = 0
        self._each = 0.0
        self._at = 0.0

    @contextmanager
    def used(self, tenant: str, users: int = 1) -> Iterator[None]:
        """The block uses the device for a tenant, as many as `users` would."""
        began = self._now()
        self._users += users
        try:
            yield
        finally:
            share = (self._now() - began) * users
            self._users -= users
            DEVICE_TIME.labels(tenants.label(tenant), self._stage).inc(share)

    def _now(self) -> float:
        now = time.perf_counter()
        if self._users:
            self._each += (now - self._at) / self._users
        self._at = now
        return self._each
