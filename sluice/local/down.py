"""Stopping a running `sluice up` from elsewhere."""

import os
import signal
import time
from pathlib import Path

from sluice.local.state import UpState

__all__ = ["NotStoppedError", "stop_running"]

PATIENCE = 90.0
"""Seconds; the supervisor's own bounds add up to less."""


class NotStoppedError(Exception):
    """The supervisor still runs after all patience."""


def stop_running(data: Path, *, patience: float = PATIENCE) -> UpState | None:
    """Ask the `up` of a data folder to stop and wait for its end; what ran, or None where nothing did.

    A file that a killed supervisor left is removed. `PermissionError` where it belongs to another user.
    """
    state = UpState.read(data)
    if state is None:
        return None
    if not state.alive:
        UpState.remove(data)
        return None
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while state.alive:
        if time.monotonic() > deadline:
            raise NotStoppedError(f"process {state.pid} still runs after {patience:.0f} s")
        time.sleep(0.05)
    return state
