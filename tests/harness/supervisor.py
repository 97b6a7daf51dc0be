"""A supervisor in a process of its own, over tiny services, and what can be asked of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sluice.local.spec import Wave
from sluice.local.state import UpState, process_started
from tests.harness.paths import PROGRAMS

WAVES = {"embedder": Wave.STAGE, "scheduler": Wave.SCHEDULER, "gateway": Wave.GATEWAY}
PATIENCE = 90.0


def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Poll until a condition is true and return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.02)
    return value


def gone(pid: int) -> bool:
    return process_started(pid) is None


class SupervisorProcess:
    """Starts services by name; `flags` go to the programs (see `http_service.py`), `argv` replaces one.

    `passed` are variables that all services get.
    """

    def __init__(
        self,
        data: Path,
        names: tuple[str, ...] = ("embedder", "scheduler", "gateway"),
        *,
        port: int = 0,
        flags: tuple[str, ...] = (),
        argv: list[str] | None = None,
        env: dict[str, str] | None = None,
        passed: tuple[str, ...] = (),
        umask: int = -1,
    ) -> None:
        self.data = data
        self.journal = data.parent / "journal"
        program = [sys.executable, str(PROGRAMS / "http_service.py")]
        services = [(name, WAVES[name], argv or [*program, name, str(self.journal), *flags]) for name in names]
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "run_up.py"), str(data), str(port), json.dumps(services), *passed],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
            umask=umask,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def state(self) -> UpState:
        state = UpState.running(self.data)
        assert state is not None
        return state

    @property
    def pids(self) -> list[int]:
        return [service.pid for service in self.state.services.values() if service.pid is not None]

    def ready(self) -> UpState:
        def all_ready() -> UpState | None:
            assert self.process.poll() is None, self.process.communicate()[0]
            state = UpState.running(self.data)
            return state if state is not None and state.ready else None

        state: UpState = until(all_ready, "readiness")
        return state

    def ask(self, name: str) -> dict[str, Any]:
        """A service's account of itself; waits while it restarts."""
        response = httpx.get(self.state.services[name].url, timeout=PATIENCE, trust_env=False)
        facts: dict[str, Any] = response.json()
        return facts

    def kill(self, name: str) -> int:
        pid = self.state.services[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def end(self, *signals: int) -> tuple[int, str]:
        """Send signals (each once the one before was noticed) and wait: the exit status and what was printed."""
        for number in signals:
            self.process.send_signal(number)
        output = self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode, output
