"""The whole platform as a person runs it: `sluice up` on a folder of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from sluice import Client
from sluice.local.state import UpState

__all__ = ["Platform", "eventually"]

PATIENCE = 200.0
COMMAND = 600.0
"""Seconds that a command may take."""


def eventually(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Poll until a condition holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


class Platform:
    """nats-server and the five services. A service that ends is started again by the supervisor.

    `patience` bounds the seconds until all are ready. `before` are words that come before the command of each start.
    """

    def __init__(
        self, folder: Path, *, pipelines: Path | None = None, patience: float = PATIENCE, **settings: object
    ) -> None:
        self.before: Sequence[str] = ()
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self._log = folder / "up.log"
        self._patience = patience
        self._command = [sys.executable, "-m", "sluice", "up", "--port", "0", "--data", str(self.data)]
        if pipelines is not None:
            self._command += ["--pipelines", str(pipelines)]
        self._env = {**os.environ, **{f"SLUICE_{k.upper()}": str(v) for k, v in settings.items()}}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> UpState:
        state = UpState.read(self.data)
        assert state is not None, self._log.read_text()
        return state

    @property
    def url(self) -> str:
        return self.state.url

    @property
    def output(self) -> str:
        """What `sluice up` has printed."""
        return self._log.read_text()

    def client(self, timeout: float = 60.0) -> Client:
        return Client(self.url, timeout=timeout)

    def sluice(self, *words: str, ends: int = 0) -> str:
        """Run the command line against this platform. Returns what it prints; fails unless it ends with that code."""
        command = [sys.executable, "-m", "sluice", *words, "--url", self.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND, check=False)
        assert done.returncode == ends, done.stdout + done.stderr
        return done.stdout if ends == 0 else done.stdout + done.stderr

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def launch(self) -> None:
        """Start it; it may not be ready yet."""
        command = [*self.before, *self._command]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)

    def start(self) -> None:
        self.launch()
        try:
            eventually(self._is_up, "all services ready", patience=self._patience)
        except AssertionError as late:
            late.add_note(self.output)
            raise

    def signal(self, service: str, number: int) -> None:
        """Send a signal to a service and wait until another process has taken its place and is ready."""
        before = self.state.services[service].pid
        assert before is not None
        os.kill(before, number)
        eventually(lambda: self._is_back(service, before), f"{service} back after signal {number}")

    def metric(self, service: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = httpx.get(f"{self.state.services[service].url}/metrics", trust_env=False, timeout=10).text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))

    def freeze_and_kill(self, at: Callable[[], None]) -> None:
        """Stop all processes at one moment, call `at`, and kill them, so that none notices."""
        assert self._process is not None
        frozen = _frozen(psutil.Process(self._process.pid))
        try:
            at()
        finally:
            for process in frozen:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(frozen, PATIENCE)
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """Ctrl-C. Returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(PATIENCE)
        self._process = None
        return code

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output
        state = UpState.read(self.data)
        return state is not None and state.pid == self._process.pid and state.ready

    def _is_back(self, service: str, before: int) -> bool:
        state = UpState.read(self.data)
        if state is None or state.services[service].pid in (None, before):
            return False
        if service == "nats":
            return state.ready
        try:
            return httpx.get(f"{state.services[service].url}/readyz", trust_env=False, timeout=10).status_code == 200
        except httpx.TransportError:
            return False


def _frozen(top: psutil.Process) -> list[psutil.Process]:
    """A process and all below it, which do not run any more."""
    found: dict[int, psutil.Process] = {}
    while new := [p for p in (top, *top.children(recursive=True)) if p.pid not in found]:
        for process in new:
            found[process.pid] = process
            with suppress(psutil.NoSuchProcess):
                process.suspend()
    return list(found.values())
