"""The bookkeeping of following a job through lost connections, shared by both clients. No I/O."""

import time

from httpx_sse import ServerSentEvent

from sluice.api.models import Job
from sluice.client.errors import SluiceError, UnreachableError

__all__ = ["AGAIN", "PATIENCE", "SILENCE", "ReconnectPolicy", "update"]

AGAIN = 0.2
"""Seconds between two connections where the first one ended before the job did."""
PATIENCE = 60.0
"""Seconds that a watched job's gateway may be away before the watch gives up."""
SILENCE = 15.0
"""Seconds without an event after which the job is asked for again on a new connection."""


class ReconnectPolicy:
    """Decides whether a lost connection is worth another try, and after how long.

    Patience counts from the last sign of life, so a job may run for days while an outage may not. Before the
    first sign of life there is none: a wrong address fails at once.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._last_contact: float | None = None
        self._losses = 0

    def heard(self) -> None:
        self._last_contact = time.monotonic()
        self._losses = 0

    def pause(self, error: SluiceError) -> float:
        """Seconds to wait before connecting again; raises `error` where that is no use."""
        temporary = isinstance(error, UnreachableError) or error.status in (429, 502, 503, 504)
        if not temporary or self._last_contact is None:
            raise error
        if time.monotonic() - self._last_contact > self._patience:
            raise error
        self._losses += 1
        return float(min(0.1 * 2**self._losses, 2.0))


def update(sse: ServerSentEvent) -> Job | None:
    """The job that an event carries; None for other events."""
    return Job.model_validate_json(sse.data) if sse.event in ("progress", "end") else None
