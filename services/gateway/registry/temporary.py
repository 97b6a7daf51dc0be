"""Folders for the files of models on their way, which do not outlive their process for long, however it ends.

Beside each folder is a file that its process holds locked. The system takes the lock away with the process, so whoever
makes the next folder finds those that nobody holds any more, and removes them.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

__all__ = ["temporary_folder"]

PREFIX: Final = "sluice-model-"
LOCK: Final = ".lock"


@asynccontextmanager
async def temporary_folder() -> AsyncIterator[Path]:
    """A folder that is gone after the block. Raises OSError where there is no room for it."""
    held = _folder()
    folder = await to_thread.run_sync(held.__enter__)
    try:
        yield folder
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(held.__exit__, None, None, None)


@contextmanager
def _folder() -> Iterator[Path]:
    place = Path(tempfile.gettempdir())
    for lock in place.glob(f"{PREFIX}*{LOCK}"):
        _remove_abandoned(lock)
    descriptor, lock = _locked(place)
    folder = lock.with_suffix("")
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(place: Path) -> tuple[int, Path]:
    """A new file that this process holds locked."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=LOCK, dir=place)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Before it was locked somebody may have taken it for an abandoned one.
        if os.path.exists(name):
            return descriptor, Path(name)
        os.close(descriptor)


def _remove_abandoned(lock: Path) -> None:
    """Remove a folder whose process has ended; leave what belongs to others."""
    with suppress(OSError):
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
