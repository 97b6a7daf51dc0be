"""Where backups are kept: a folder, or a bucket of an object store."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from shared.backup.errors import BackupError
from shared.backup.manifest import BackupFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

__all__ = ["BackupPlace", "FolderPlace", "ObjectStorePlace", "open_place"]

PIECE: Final = 2**20
"""Bytes that are read from a file at once."""

PART: Final = 16 * 2**20
"""Bytes of one part of an upload."""


RETRIES: Final["RetryConfig"] = {"max_retries": 5, "retry_timeout": timedelta(seconds=120)}
TIMEOUT: Final = timedelta(seconds=120)
"""For one request to an object store."""


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


def open_place(url: str) -> BackupPlace:
    """A folder's path, or the URL of an object store as obstore knows it: s3://bucket/prefix, gs://…, az://….

    Credentials, region and endpoint of a store are those of the environment. Raises BackupError.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "file":
        return ObjectStorePlace(url)
    path = Path(rest if separator else url).absolute()
    if path.exists() and not path.is_dir():
        raise BackupError(f"{path} is not a folder")
    return FolderPlace(path)


class FolderPlace:
    """A folder. What is written there only its owner can read."""

    def __init__(self, folder: Path) -> None:
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


class ObjectStorePlace:
    """A prefix of a bucket."""

    def __init__(self, url: str) -> None:
        """Raises BackupError for a URL that obstore does not know."""
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        self.url = url.rstrip("/")
        self._failure = (BaseError, OSError)
        try:
            # Options that are given take the place of this variable.
            plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
            options: Any = {"client_options": {"timeout": TIMEOUT, "allow_http": plain}, "retry_config": RETRIES}
            self._store: ObjectStore = from_url(self.url, **options)
        except (BaseError, ValueError) as error:
            raise BackupError(f"{url} cannot be used: {_first_line(error)}") from None

    async def write(self, path: str, pieces: AsyncIterable[bytes]) -> BackupFile:
        import obstore

        size, digest = 0, hashlib.sha256()
        try:
            # The object appears when its upload is complete: one that breaks off leaves none.
            writer = obstore.open_writer_async(self._store, path, buffer_size=PART)
            async for piece in pieces:
                await writer.write(piece)
                digest.update(piece)
                size += len(piece)
            await writer.close()
        except self._failure as error:
            raise BackupError(f"cannot write {self.url}/{path}: {_first_line(error)}") from None
        return BackupFile(path=path, size=size, sha256=digest.hexdigest())

    async def read(self, path: str) -> AsyncIterator[bytes]:
        from obstore.exceptions import NotFoundError

        try:
            async for piece in (await self._store.get_async(path)).stream(PIECE):
                yield bytes(piece)
        except (NotFoundError, FileNotFoundError):
            raise FileNotFoundError(path) from None
        except self._failure as error:
            raise BackupError(f"cannot read {self.url}/{path}: {_first_line(error)}") from None

    async def paths(self) -> list[str]:
        try:
            return sorted([item["path"] async for page in self._store.list() for item in page])
        except self._failure as error:
            raise BackupError(f"cannot list {self.url}: {_first_line(error)}") from None

    async def remove(self, paths: list[str]) -> None:
        try:
            for start in range(0, len(paths), 1000):
                await self._store.delete_async(paths[start : start + 1000])
        except FileNotFoundError:
            return
        except self._failure as error:
            raise BackupError(f"cannot remove from {self.url}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or repr(error))[:300]
