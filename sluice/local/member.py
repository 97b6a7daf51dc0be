"""A process that is kept running: started, watched until ready, started again when it ends."""

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sluice.local.broker import RestartError
from sluice.local.child import Child
from sluice.local.guard import Guard

__all__ = ["FailedToStartError", "Launch", "Member", "State", "how_it_ended"]

FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0
STABLE_SECONDS = 30.0
"""A process that ran this long may be restarted without delay again."""
FAILURES = 5
REMINDER_SECONDS = 20.0
POLL_STARTING, POLL_READY = 0.15, 1.0
RESTART_PATIENCE = 10.0
MISSES = 2
"""Polls in a row without success that make a ready process unready: a busy moment is none."""


class State(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "not ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class FailedToStartError(Exception):
    """A process ended again and again without ever having been ready."""

    def __init__(self, name: str, log: Path, reason: str, *, log_start: int) -> None:
        """`log_start` is where in the log the last failure begins, in bytes."""
        super().__init__(name, log, reason)
        self.log_start = log_start
        self.name = name
        self.log = log
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a member is started, when it counts as ready, and when it is stopped.

    `probe` returns None when ready and otherwise why not.
    """

    name: str
    command: Callable[[], Sequence[str]]
    environment: Callable[[], Mapping[str, str]]
    probe: Callable[[], Awaitable[str | None]]
    log: Path
    wave: int
    url: str
    listener: socket.socket | None = None
    gentle: bool = False


@dataclass(slots=True, kw_only=True)
class Member:
    """A launch and how it goes. Changes are told to `changed` together with a line worth reading, or None."""

    launch: Launch
    guard: Guard
    changed: Callable[["Member", str | None], None]
    state: State = State.WAITING
    note: str = ""
    restarts: int = 0
    since: float = field(default_factory=time.monotonic)
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    _child: Child | None = None
    _next_reminder: float = 0.0

    @property
    def name(self) -> str:
        return self.launch.name

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.alive else None

    async def keep(self) -> None:
        """Run for ever; raises `FailedToStartError` after five failures in a row before ever being ready."""
        delay, failures = FIRST_DELAY, 0
        while True:
            began, log_start = time.monotonic(), _size(self.launch.log)
            reason = await self._run_once()
            failures += 1
            if not self.was_ready.is_set() and failures >= FAILURES:
                raise FailedToStartError(self.name, self.launch.log, reason, log_start=log_start)
            if time.monotonic() - began >= STABLE_SECONDS:
                delay = FIRST_DELAY
            self.restarts += 1
            self._enter(State.RESTARTING, reason, f"{self.name} {reason}; starting it again in {delay:.1f} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def stop(self, patience: float) -> None:
        """Stop the process within `patience` seconds, then kill it; the keeping has been cancelled before."""
        if self._child is not None and self._child.alive:
            self._enter(State.STOPPING, "")
            by_itself = await self._child.stop(patience)
            line = None if by_itself else f"{self.name} did not stop within {patience:.0f} s and was killed"
            self._enter(State.STOPPED, "", line)
        else:
            self._enter(State.STOPPED, "")

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def _run_once(self) -> str:
        listener = self.launch.listener
        fds = () if listener is None else (listener.fileno(),)
        try:
            self._child = Child(
                self.launch.command(),
                env={**self.launch.environment(), **({"SLUICE_HTTP_FD": str(fds[0])} if fds else {})},
                log=self.launch.log,
                guard=self.guard,
                gentle=self.launch.gentle,
                pass_fds=fds,
            )
        except OSError as error:
            return f"cannot be run ({error.strerror or error})"
        self._enter(State.STARTING, "")
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            code = await self._child.exited()
            watching.cancel()
        return how_it_ended(code)

    async def _watch(self) -> None:
        misses = 0
        while True:
            try:
                why_not = await self.launch.probe()
            except RestartError as error:
                await self._restart(str(error))
                return
            misses = 0 if why_not is None else misses + 1
            if why_not is None and self.state is not State.READY:
                self._became_ready()
            elif why_not is not None and self.state is State.READY and misses >= MISSES:
                self._enter(State.UNREADY, why_not, f"{self.name} is not ready: {why_not}")
            elif why_not is not None and self.state is not State.READY:
                self.note = why_not
                self._remind()
            await asyncio.sleep(POLL_READY if self.state is State.READY else POLL_STARTING)

    async def _restart(self, why: str) -> None:
        """End the process, which then is started again."""
        assert self._child is not None
        self._enter(State.UNREADY, why, f"{self.name} {why}")
        await self._child.stop(RESTART_PATIENCE)

    def _remind(self) -> None:
        """Say now and then that it is not ready yet."""
        waited = time.monotonic() - self.since
        if waited >= self._next_reminder:
            self._next_reminder += REMINDER_SECONDS
            line = f"{self.name} is still not ready after {waited:.0f} s: {self.note} (log: {self.launch.log})"
            self.changed(self, line)

    def _became_ready(self) -> None:
        seconds = time.monotonic() - self.since
        again = " again" if self.was_ready.is_set() else ""
        self.was_ready.set()
        self._enter(State.READY, "", f"{self.name} is ready{again} after {seconds:.1f} s")

    def _enter(self, state: State, note: str, line: str | None = None) -> None:
        self.state, self.note, self.since = state, note, time.monotonic()
        self._next_reminder = REMINDER_SECONDS
        self.changed(self, line)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
