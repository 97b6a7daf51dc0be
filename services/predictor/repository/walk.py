"""The files of a model's folder, wherever links within it lead, and no others.

A link that leads out of the folder would have the predictor read what is not the model's: a secret of the machine, or
the model of another tenant. One that leads to a folder which it is in would never end.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Entry", "walk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder. `status` is that of a file, of a link to nothing the link's own; a folder has none. `problem`
    says why it is not to be read."""

    name: str
    status: os.stat_result | None = None
    problem: str = ""

    @property
    def told_apart(self) -> bytes:
        """Other bytes where the entry has changed."""
        status = self.status
        of_file = (status.st_size, status.st_mtime_ns, status.st_ino) if status else ()
        return "\0".join((self.name, *map(str, of_file), self.problem, "\n")).encode("utf-8", "surrogateescape")


def walk(folder: Path, within: Path) -> Iterator[Entry]:
    """Every file and folder below, in the order of the names. Links may lead to what is `within` this folder.

    Hidden files and folders are left out. Raises OSError where a file goes meanwhile.
    """
    yield from _walk(folder, "", os.path.realpath(within), (os.path.realpath(folder),))


def _walk(folder: Path, prefix: str, within: str, parents: tuple[str, ...]) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        yield Entry(name=prefix, problem=f"the folder {prefix or '.'} cannot be read: permission denied")
        return
    for entry in ordered:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        name, real = f"{prefix}{entry.name}", ""
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            if os.path.commonpath((real, within)) != within:
                yield Entry(name=name, problem=f"{name} is a link that leads out of the model's folder. Copy the file")
                continue
            if real in parents:
                yield Entry(name=name, problem=f"{name} is a link to a folder that it is in")
                continue
        if entry.is_dir():
            yield Entry(name=f"{name}/")
            deeper = (*parents, real or os.path.join(parents[-1], entry.name))
            yield from _walk(folder / entry.name, f"{name}/", within, deeper)
            continue
        status = _status(entry)
        # Whoever opens a pipe, or a device, may wait for ever.
        special = not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode))
        yield Entry(name=name, status=status, problem=f"{name} is not a regular file" if special else "")


def _status(entry: "os.DirEntry[str]") -> os.stat_result:
    try:
        return entry.stat()
    except OSError:
        if not entry.is_symlink():
            raise
        return entry.stat(follow_symlinks=False)
