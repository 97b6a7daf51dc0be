"""How much of the disk the broker of a data folder may use."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

__all__ = ["LEAST_FREE", "DiskFullError", "StorageBudget"]

RESERVE: Final = 2**30
"""Bytes of the disk that JetStream leaves free, where that is no more than a quarter of what is free."""

LEAST_FREE: Final = 256 * 2**20
"""Free bytes without which Sluice does not start: what it could store then would soon be refused."""

HISTORY: Final = 2**30
LEAST_HISTORY: Final = 16 * 2**20
"""Bytes at most, and at least, of each of the two streams for which JetStream sets its whole size aside."""

HISTORY_SHARE: Final = 8

PAYLOADS: Final = 256 * 2**20
PAYLOADS_SHARE: Final = 16
"""The same for the stream of logged payloads, whose oldest may go for want of room."""

STREAMS: Final = ("JOB_EVENTS", "DEAD_LETTERS")


class DiskFullError(Exception):
    """There is too little room on the disk of the data folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageBudget:
    """All in bytes: what is free now, what JetStream may use in total, and the most that each history may take, and
    that the payloads may."""

    free: int
    total: int
    history: int
    payloads: int

    @classmethod
    def of(cls, store: Path) -> Self:
        """The budget of the folder where JetStream keeps its files, or will keep them. Raises OSError."""
        used = _size(store)
        existing = next(folder for folder in (store, *store.parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        total = used + free - min(RESERVE, free // 4)
        # What is there already stays: a smaller bound would remove the oldest events.
        kept = max(_size(store / "jetstream" / "$G" / "streams" / name) for name in STREAMS)
        history = min(HISTORY, max(LEAST_HISTORY, total // HISTORY_SHARE, kept))
        payloads = min(PAYLOADS, max(LEAST_HISTORY, total // PAYLOADS_SHARE))
        return cls(free=free, total=total, history=history, payloads=payloads)

    def check(self, data: Path) -> None:
        """Raises DiskFullError with what to do."""
        if self.free < LEAST_FREE:
            raise DiskFullError(
                f"only {self.free / 2**20:,.0f} MiB are free on the disk of {data}, and Sluice needs "
                f"{LEAST_FREE // 2**20}; free some room, or choose another folder with --data"
            )

    @property
    def tight(self) -> bool:
        """Whether the disk leaves less for the history of jobs than it may take elsewhere."""
        return self.history < HISTORY


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # a running broker removes files
            total += file.stat().st_size if file.is_file() else 0
    return total
