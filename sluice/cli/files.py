"""Which files `sluice ingest` takes, what they are called in the collection, and how they are grouped."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sluice.cli.file_names import path_of, spelled
from sluice.cli.permission_files import PermissionFiles

__all__ = [
    "LARGEST_FILE",
    "LONGEST_NAME",
    "NameClashError",
    "Picked",
    "batches",
    "called",
    "grouped",
    "pick",
    "still_there",
]

T = TypeVar("T")

LARGEST_FILE, LONGEST_NAME = 50 * 2**20, 512
"""Bytes; the server refuses more."""
REQUEST_FILES, REQUEST_BYTES = 200, 32 * 2**20
SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})


class NameClashError(Exception):
    """Two files would have the same name in the collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """A file to ingest, its name in the collection, and its size in bytes. `allowed` are who may see it; None says
    nothing."""

    path: Path
    name: str
    size: int
    allowed: tuple[str, ...] | None = None


def pick(
    roots: Sequence[Path],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allowed: Sequence[str] | None = None,
) -> list[Picked]:
    """The files of the given files and folders, ordered by name.

    A file's name is its path from the folder that holds the given path, with "/", as `spelled` writes it. Hidden files
    and folders and those of SKIPPED_FOLDERS are left out, as are links that lead out of the given folder; a file that
    is itself given is taken whatever it is called. Patterns (`*` also matches "/") are held against the path within the
    given folder and against the file name; `exclude` also against folders. Who may see a file, a file of permissions in
    its folder or one above says, else `allowed`. Raises `NameClashError`, `PermissionFileError`.
    """
    found: dict[str, Picked] = {}
    for root in (Path(os.path.abspath(root)) for root in roots):
        permissions = PermissionFiles(root if root.is_dir() else root.parent)
        for path in _walk(root) if root.is_dir() else [root]:
            within = PurePosixPath(path.relative_to(root).as_posix()) if path != root else PurePosixPath(root.name)
            if not _wanted(within, include, exclude):
                continue
            name = spelled(path.relative_to(root.parent).as_posix())
            other = found.get(name)
            if other is not None and other.path != path:
                raise NameClashError(
                    f"{spelled(str(other.path))} and {spelled(str(path))} would both be named {name}; ingest them apart"
                )
            said = permissions.allowed(path)
            given = tuple(allowed) if said is None and allowed is not None else said
            found[name] = Picked(path=path, name=name, size=path.stat().st_size, allowed=given)
    return [found[name] for name in sorted(found)]


def batches(files: Iterable[Picked]) -> Iterator[list[Picked]]:
    """Groups for one request each: at most 200 files and 32 MiB, all with one list; a larger file goes alone."""
    alike: dict[tuple[str, ...] | None, list[Picked]] = {}
    for file in files:
        alike.setdefault(file.allowed, []).append(file)
    for group in alike.values():
        yield from grouped(group, lambda file: file.size, most_size=REQUEST_BYTES, most=REQUEST_FILES)


def grouped(
    items: Iterable[T], size: Callable[[T], int], *, most_size: int, most: int | None = None
) -> Iterator[list[T]]:
    """The items in order, in groups of at most `most` items and `most_size` together. A larger item goes alone."""
    group: list[T] = []
    total = 0
    for item in items:
        length = size(item)
        if group and (len(group) == most or total + length > most_size):
            yield group
            group, total = [], 0
        group.append(item)
        total += length
    if group:
        yield group


def called(root: Path) -> str:
    """The name that a given folder has in its documents' names: `.` is called like the current folder."""
    return spelled(Path(os.path.abspath(root)).name)


def still_there(root: Path, name: str) -> bool:
    """Whether the file from which a document below `root` came still exists, chosen by the patterns or not."""
    return (Path(os.path.abspath(root)).parent / path_of(name)).is_file()


def _walk(root: Path) -> Iterator[Path]:
    home = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS)
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and path.resolve().is_relative_to(home):
                yield path


def _wanted(within: PurePosixPath, include: Sequence[str], exclude: Sequence[str]) -> bool:
    if include and not _matches(within, include):
        return False
    return not any(_matches(part, exclude) for part in (within, *within.parents) if part.name)


def _matches(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    return any(
        fnmatchcase(str(path), pattern.rstrip("/")) or fnmatchcase(path.name, pattern.rstrip("/"))
        for pattern in patterns
    )
