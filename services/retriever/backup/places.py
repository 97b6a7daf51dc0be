"""Where backups are kept: the protocol of a place, and a folder."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final, Protocol

from services.retriever.backup.errors import BackupError
from services.retriever.backup.manifest import BackupFile

__all__ = ["BackupPlace", "FolderPlace"]

PIECE: Final = 2**20
"""Bytes that are read from a file at once."""


class BackupPlace(Protocol):
    """Files by their paths, with `/`. Methods raise BackupError with the place's own reason."""

    url: str

    async def write(self, path: str, pieces: AsyncIterable[bytes]) -> BackupFile:
        """Write a file. It is stored durably, or not there, once this returns or fails."""

    def read(self, path: str) -> AsyncIterator[bytes]:
        """The bytes of a file piece by piece. Raises FileNotFoundError."""

    async def paths(self) -> list[str]:
        """The paths of all files."""

    async def remove(self, paths: list[str]) -> None:
        """Remove files. One that is not there is no error."""


class FolderPlace:
    """A folder. What is written there only its owner can read."""

    def __init__(self, folder: Path) -> None:
        """Raises BackupError where it is something else."""
        if folder.exists() and not folder.is_dir():
            raise BackupError(f"{folder} is not a folder")
        self.url = str(folder)
        self._folder = folder

    async def write(self, path: str, pieces: AsyncIterable[bytes]) -> BackupFile:
        target = self._folder / path
        draft = target.with_name(f".{target.name}.part")
        size, digest = 0, hashlib.sha256()
        try:
            await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
                    digest.update(piece)
                    size += len(piece)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(self._publish, draft, target)
        except OSError as error:
            raise BackupError(f"cannot write {target}: {error.strerror or error}") from None
        return BackupFile(path=path, size=size, sha256=digest.hexdigest())

    async def read(self, path: str) -> AsyncIterator[bytes]:
        try:
            with (self._folder / path).open("rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE):
                    yield piece
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BackupError(f"cannot read {self._folder / path}: {error.strerror or error}") from None

    async def paths(self) -> list[str]:
        return await asyncio.to_thread(self._list)

    async def remove(self, paths: list[str]) -> None:
        try:
            await asyncio.to_thread(self._remove, paths)
        except OSError as error:
            raise BackupError(f"cannot remove from {self._folder}: {error.strerror or error}") from None

    def _publish(self, draft: Path, target: Path) -> None:
        draft.replace(target)
        folder = target.parent
        # The names of new folders have to be on disk as well as what is in them.
        for parent in (folder, *folder.parents):
            _sync(parent)
            if parent == self._folder.parent:
                break

    def _list(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return sorted(path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            (self._folder / path).unlink(missing_ok=True)
        for name in {path.partition("/")[0] for path in paths if "/" in path}:
            if not any(path.is_file() for path in (self._folder / name).rglob("*")):
                shutil.rmtree(self._folder / name, ignore_errors=True)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
