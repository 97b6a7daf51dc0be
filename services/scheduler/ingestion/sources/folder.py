"""A folder of the scheduler's machine, below a root that its settings allow."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import NoReturn, Self

from services.scheduler.ingestion.reader.reader import MAX_DOCUMENT_BYTES
from services.scheduler.ingestion.sources.base import Listed
from services.scheduler.ingestion.sources.permission_files import PERMISSION_FILE, PermissionFiles, matches
from shared.contracts.documents import spell_name
from shared.contracts.jobs import FolderSource
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A file is called by its path from the folder that holds this one, with "/", as `sluice ingest` calls it; what no
    name may have is spelled by `spell_name`.

    Links are followed where they lead to a file in this folder; others, and hidden files and folders, are left out.
    Who may see a file, PERMISSION_FILE in its folder or in one above says.
    """

    path: Path
    pattern: tuple[str, ...]

    @classmethod
    def open(cls, spec: FolderSource, roots: Sequence[str]) -> Self:
        """Raises Problem SOURCE_REFUSED for a folder outside of all roots, NOT_FOUND for one that is not there,
        INVALID_REQUEST for a path or a pattern that no file has."""
        if "\0" in spec.path + spec.pattern:
            raise Problem(ProblemType.INVALID_REQUEST, "Neither a folder nor a pattern can have the character NUL.")
        given = Path(spec.path)
        allowed = [Path(root).resolve() for root in roots if "://" not in root]
        # Links are resolved first, so that no message says what exists outside the roots.
        path = Path(os.path.realpath(given))
        if not given.is_absolute() or not any(path.is_relative_to(root) for root in allowed):
            raise Problem(
                ProblemType.SOURCE_REFUSED,
                f"{spec.path!r} is not below a folder that the scheduler may read. SLUICE_SOURCE_ROOTS names them.",
            )
        pattern = tuple(spec.pattern.split("/"))
        if any(part in ("", ".", "..") for part in pattern):
            raise Problem(ProblemType.INVALID_REQUEST, f"The pattern {spec.pattern!r} is not one of relative paths.")
        if not os.path.isdir(path):  # false too where the path is too long
            raise Problem(ProblemType.NOT_FOUND, f"There is no folder {spec.path!r}.")
        return cls(path=path, pattern=pattern)

    @property
    def origin(self) -> str:
        return self.path.as_uri()

    async def list(self) -> list[Listed]:
        """Raises Problem SOURCE_UNAVAILABLE where a part of the folder cannot be read, SOURCE_REFUSED where a file of
        permissions cannot be used."""
        return await asyncio.to_thread(lambda: sorted(self._files(), key=lambda file: file.name))

    def _files(self) -> Iterator[Listed]:
        permissions = PermissionFiles()
        for folder, folders, files in os.walk(self.path, onerror=_unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            if PERMISSION_FILE in files:
                self._take_permissions(permissions, Path(folder))
            for name in files:
                path = Path(folder, name)
                if name.startswith(".") or not matches(path.relative_to(self.path).parts, self.pattern):
                    continue
                if (status := self._status(path)) is not None:
                    yield Listed(
                        name=spell_name(path.relative_to(self.path.parent).as_posix()),
                        size=status.st_size,
                        stamp=f"{status.st_mtime_ns}-{status.st_size}",
                        load=partial(asyncio.to_thread, self._read, path),
                        allowed=permissions.allowed(path.relative_to(self.path).parts),
                    )

    def _take_permissions(self, permissions: PermissionFiles, folder: Path) -> None:
        try:
            data = self._read(folder / PERMISSION_FILE)
        except Problem as problem:
            raise Problem(ProblemType.SOURCE_REFUSED, f"{PERMISSION_FILE}: {problem.detail}") from None
        permissions.add(folder.relative_to(self.path).parts, data)

    def _status(self, path: Path) -> os.stat_result | None:
        """None for what leads out of the folder, is no file, or went while the folder was listed."""
        if not Path(os.path.realpath(path)).is_relative_to(self.path):
            return None
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return status if S_ISREG(status.st_mode) else None

    def _read(self, path: Path) -> bytes:
        """The link may have been turned since it was listed, so what is opened is looked at once more."""
        try:
            file = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(file, "rb") as stream:
                where = Path(os.path.realpath(f"/proc/self/fd/{file}")) if os.path.isdir("/proc/self/fd") else path
                if not where.is_relative_to(self.path) or not S_ISREG(os.fstat(file).st_mode):
                    raise Problem(ProblemType.SOURCE_REFUSED, "The file has left its folder.")
                data = stream.read(MAX_DOCUMENT_BYTES + 1)
        except OSError as error:
            raise Problem(ProblemType.NOT_FOUND, f"The file cannot be read: {error.strerror}.") from None
        if len(data) > MAX_DOCUMENT_BYTES:
            raise Problem(ProblemType.TOO_LARGE, f"A document has at most {MAX_DOCUMENT_BYTES // 2**20} MiB.")
        return data


def _unreadable(error: OSError) -> NoReturn:
    """A folder that cannot be read is not empty: its documents must not be taken for removed."""
    raise Problem(ProblemType.SOURCE_UNAVAILABLE, f"The folder {error.filename!r} cannot be read: {error.strerror}.")
