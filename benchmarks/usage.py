"""What processes use: CPU-seconds and memory of whole trees of processes."""

import time
from collections.abc import Callable, Iterable

import psutil

__all__ = ["Usage", "wait_ready"]


class Usage:
    """Processes by id, each with all of its descendants.

    CPU of a process that has ended counts as long as its parent in the tree has waited for it.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]

    def processes(self) -> list[psutil.Process]:
        found = {process.pid: process for process in self._roots}
        for root in self._roots:
            found |= {child.pid: child for child in root.children(recursive=True)}
        return list(found.values())

    def cpu_seconds(self) -> float:
        """User and system time since the processes began."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_mib(self) -> float:
        """Resident memory; a page that processes share counts once, in parts (PSS)."""
        return self._memory("pss")

    def rss_mib(self) -> float:
        """Resident memory; a page that processes share counts once for each."""
        return self._memory("rss")

    def _memory(self, kind: str) -> float:
        total = 0
        for process in self.processes():
            try:
                total += getattr(process.memory_full_info(), kind)
            except psutil.NoSuchProcess:
                continue
        return total / 2**20


def wait_ready(check: Callable[[], bool], what: str, seconds: float = 60.0) -> float:
    """Try until the check says yes; a refused connection means no. Returns the seconds that it took."""
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        try:
            if check():
                return time.perf_counter() - began
        except OSError:
            pass
        time.sleep(0.005)
    raise TimeoutError(f"{what} was not ready after {seconds:.0f} s")
