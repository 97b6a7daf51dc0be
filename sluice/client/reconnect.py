"""When both clients reconnect while they watch a job. No I/O."""

import time

from httpx_sse import ServerSentEvent

from sluice.api.jobs import Job
from sluice.client.errors import SluiceError, UnreachableError

__all__ = ["RECONNECT_DELAY", "OUTAGE_LIMIT", "SILENCE", "ReconnectPolicy", "update"]

RECONNECT_DELAY = 0.2
"""Seconds before the next connection when the server closes one before the job ends."""
OUTAGE_LIMIT = 60.0
"""Seconds without contact to the gateway after which a watch fails."""
SILENCE = 15.0
"""Seconds without an event after which the client reconnects."""


class ReconnectPolicy:
    """Decides whether and when to reconnect after a lost connection.

    The limit `patience` (seconds) counts from the last contact, so it bounds an outage and not a job. Before the
    first contact every error is final: a wrong address fails at once.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._last_contact: float | None = None
        self._losses = 0

    def heard(self) -> None:
        self._last_contact = time.monotonic()
        self._losses = 0

    def pause(self, error: SluiceError) -> float:
        """Seconds to wait before connecting again; raises `error` if a retry is pointless."""
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
