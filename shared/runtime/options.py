"""Times and bounds of the stage runtime, which tests set to others."""

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULTS", "RuntimeOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """All times are seconds."""

    pull_expires: float = 30.0
    """For which one pull request stands."""

    heartbeat: float = 1.0
    """Between signs of life of the broker while a pull request stands. A node that dies takes the request with it."""

    silence: float = 2.5
    """Without a sign of life after which the broker is asked anew."""

    pull_slack: float = 5.0
    """After which an expired request is forgotten even if the broker has not said so."""

    forward_timeout: float = 2.0
    """For room in the next stage's queue."""

    delivered_timeout: float = 2.0
    """For a gateway to say how much of an answer it has delivered."""

    canary_timeout: float = 60.0
    """For a stage's canary to come back."""

    reconnect_grace: float = 5.0
    """After a reconnection, in which readers may still be on their way back and do not count as gone: longer than the
    longest pause between two tries to connect."""

    remembered_cancels: int = 10_000
    """Cancelled queries that a worker remembers."""


DEFAULTS: Final = RuntimeOptions()
