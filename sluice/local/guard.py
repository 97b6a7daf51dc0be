"""The guard: a small process that ends the services when the supervisor is killed without a chance to do so.

The supervisor tells it the process groups through a pipe. When the pipe closes (which the operating system does
for a process that dies, however it dies), the guard kills the groups that are still listed: services at once (their
work is redelivered by design), the broker after a moment to close its files. It holds the lock on the data folder
meanwhile, so that no new supervisor starts among the remains.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from sluice.local.environment import program_environment
from sluice.local.state import process_started

__all__ = ["Guard", "main"]

STOP_TIMEOUT = 5.0
"""Seconds that a group has between SIGTERM and SIGKILL."""
GENTLE = "gentle"


class Guard:
    """The supervisor's side. `gentle` asks for SIGTERM first."""

    def __init__(self, lock_fd: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sluice.local.guard"],
            env=program_environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lock_fd,),
        )

    def add(self, group: int, *, gentle: bool = False) -> None:
        self._tell(f"+ {group} {GENTLE if gentle else '-'}\n")

    def remove(self, group: int) -> None:
        self._tell(f"- {group} -\n")

    def close(self) -> None:
        """Let the guard go; it ends what is still listed."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT + 2)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, bool] = {}
    for line in sys.stdin:
        sign, group, manner = line.split()
        if sign == "+":
            groups[int(group)] = manner == GENTLE
        else:
            groups.pop(int(group), None)
    for group, gentle in groups.items():
        _signal(group, signal.SIGTERM if gentle else signal.SIGKILL)
    deadline = time.monotonic() + STOP_TIMEOUT
    while any(process_started(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.02)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    main()
