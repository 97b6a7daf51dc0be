"""What a disk surely holds: files and folders as they were when they were last synced."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

__all__ = ["Disk", "recorded"]


class Disk:
    """Follows a process's calls of `fsync` below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._content: dict[int, bytes] = {}
        self._names: dict[Path, dict[str, int]] = {}

    def synced(self, path: Path) -> None:
        if not path.is_relative_to(self._root):
            return
        if path.is_dir():
            self._names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._content[path.stat().st_ino] = path.read_bytes()

    def cut(self, target: Path, chance: random.Random) -> None:
        """Write what is left after the power fails now to `target`.

        Of what was not synced, each name may be there or not, and each file may be whole or of zero bytes.
        """
        self._leave(self._root, target, chance)

    def _leave(self, source: Path, target: Path, chance: random.Random) -> None:
        target.mkdir(parents=True, exist_ok=True)
        sure = self._names.get(source, {})
        for entry in os.scandir(source):
            if sure.get(entry.name) != entry.inode() and chance.random() < 0.5:
                continue
            if entry.is_dir():
                self._leave(Path(entry.path), target / entry.name, chance)
                continue
            content = self._content.get(entry.inode())
            if content is None:
                content = Path(entry.path).read_bytes() if chance.random() < 0.5 else b""
            (target / entry.name).write_bytes(content)


@contextmanager
def recorded(disk: Disk, before: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Tell the disk of each `os.fsync` of this process; `before` is called just before one takes effect."""
    real = os.fsync

    def fsync(opened: int) -> None:
        before()
        real(opened)
        disk.synced(Path(os.readlink(f"/proc/self/fd/{opened}")))

    with patch.object(os, "fsync", fsync):
        yield
