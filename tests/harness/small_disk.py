"""A file system of a few hundred megabytes, which a test can fill."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

__all__ = ["SmallDisk", "small_disk"]

PIECE: Final = 2**20


class SmallDisk:
    """A mounted tmpfs. `fill` takes all of it, `make_room` gives that back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes free."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * PIECE):
                    pass
            except OSError:
                file.truncate(max(0, self._filler.stat().st_size - leave))

    def make_room(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount it, or skip the test where this user may not mount anything."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
