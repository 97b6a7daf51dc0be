"""Stopping a running `sluice up` from elsewhere."""

import os
import signal
import time
from pathlib import Path

from sluice.local.state import UpState

__all__ = ["NotStoppedError", "stop_running"]

STOP_TIMEOUT = 90.0
"""Seconds; the supervisor's own bounds add up to less."""


class NotStoppedError(Exception):
    """The supervisor still runs after the time limit."""


def stop_running(data: Path, *, timeout: float = STOP_TIMEOUT) -> UpState | None:
    """Ask the `up` of a data folder to stop and wait for its end; the state of the process, or None if none ran.

    A file that a killed supervisor left is removed. `PermissionError` where it belongs to another user.
    """
    state = UpState.read(data)
    if state is None:
        return None
    if not state.alive:
        UpState.remove(data)
        return None
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while state.alive:
        if time.monotonic() > deadline:
            raise NotStoppedError(f"process {state.pid} still runs after {timeout:.0f} s")
        time.sleep(0.05)
    return state
