"""The data folder's own facts: who holds it, what runs there, and where the logs are."""

import fcntl
import json
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sluice.local.private import write_private

__all__ = ["FolderInUseError", "FolderLock", "ServiceState", "UpState", "process_started", "rotate_log"]

UP_FILE = "up.json"
LOCK_FILE = "up.lock"
OLD_LOGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """`pid` is None while nothing runs; `state` is a `sluice.local.member.State` value."""

    url: str
    state: str
    pid: int | None
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpState:
    """What `DATA/up.json` says about a running `sluice up`; `started` tells its process from a later one."""

    pid: int
    started: str | None
    url: str
    nats_url: str | None
    ready: bool
    services: dict[str, ServiceState] = field(default_factory=dict)

    def write(self, data: Path) -> None:
        """Replace the file at once. It holds the broker's password, in `nats_url`, so its owner alone can read it."""
        write_private(data / UP_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, data: Path) -> Self | None:
        """The file's content; None where there is none that makes sense."""
        try:
            content: dict[str, Any] = json.loads((data / UP_FILE).read_text())
            services = {name: ServiceState(**state) for name, state in content.pop("services").items()}
            return cls(services=services, **content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def running(cls, data: Path) -> Self | None:
        """The file's content where the process that wrote it still runs."""
        state = cls.read(data)
        return state if state is not None and state.alive else None

    @property
    def alive(self) -> bool:
        started = process_started(self.pid)
        return started is not None and started == self.started

    @staticmethod
    def remove(data: Path) -> None:
        (data / UP_FILE).unlink(missing_ok=True)


class FolderInUseError(Exception):
    """Another `sluice up` holds the data folder."""


class FolderLock:
    """The exclusive right to a data folder; held until closed, by every process that inherits `fd`."""

    def __init__(self, data: Path, *, patience: float = 10.0) -> None:
        """Take the lock; a supervisor that was just killed gets `patience` seconds for its processes to go."""
        self._file = (data / LOCK_FILE).open("a")
        deadline = time.monotonic() + patience
        while not self._try():
            if UpState.running(data) is not None or time.monotonic() > deadline:
                self._file.close()
                raise FolderInUseError(str(data))
            time.sleep(0.05)

    @property
    def fd(self) -> int:
        return self._file.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def process_started(pid: int) -> str | None:
    """When a process started, as text to compare; None where it does not run (any more)."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(  # noqa: S603  (a fixed program, a number)
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        timeout=5,
    )
    return answer.stdout.strip() or None


def rotate_log(log: Path) -> None:
    """Begin a new log file; the last three are kept as `.1` (the newest) to `.3`."""
    for number in range(OLD_LOGS, 0, -1):
        older = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
