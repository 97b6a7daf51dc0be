"""Backups in an object store, and which place a URL names."""

import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import from_url

from services.retriever.backup.errors import BackupError
from services.retriever.backup.manifest import BackupFile
from services.retriever.backup.places import BackupPlace, FolderPlace

if TYPE_CHECKING:
    from obstore.store import RetryConfig

__all__ = ["ObjectStorePlace", "open_place"]

PIECE: Final = 2**20
"""Bytes that are read at once."""

PART: Final = 16 * 2**20
"""Bytes of one part of an upload."""

RETRIES: Final["RetryConfig"] = {"max_retries": 5, "retry_timeout": timedelta(seconds=120)}
TIMEOUT: Final = timedelta(seconds=120)
"""For one request to an object store."""

FAILURES: Final = (BaseError, OSError)


def open_place(url: str) -> BackupPlace:
    """A folder's path, or the URL of an object store as obstore knows it: s3://bucket/prefix, gs://…, az://….

    Credentials, region and endpoint of a store are those of the environment. Raises BackupError.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "file":
        return ObjectStorePlace(url)
    return FolderPlace(Path(rest if separator else url).absolute())


class ObjectStorePlace:
    """A prefix of a bucket."""

    def __init__(self, url: str) -> None:
        """Raises BackupError for a URL that obstore does not know."""
        self.url = url.rstrip("/")
        try:
            # Options that are given take the place of this variable.
            plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
            options: Any = {"client_options": {"timeout": TIMEOUT, "allow_http": plain}, "retry_config": RETRIES}
            self._store = from_url(self.url, **options)
        except (BaseError, ValueError) as error:
            raise BackupError(f"{url} cannot be used: {_first_line(error)}") from None

    async def write(self, path: str, pieces: AsyncIterable[bytes]) -> BackupFile:
        size, digest = 0, hashlib.sha256()
        try:
            # The object appears when its upload is complete: one that breaks off leaves none.
            writer = obstore.open_writer_async(self._store, path, buffer_size=PART)
            async for piece in pieces:
                await writer.write(piece)
                digest.update(piece)
                size += len(piece)
            await writer.close()
        except FAILURES as error:
            raise BackupError(f"cannot write {self.url}/{path}: {_first_line(error)}") from None
        return BackupFile(path=path, size=size, sha256=digest.hexdigest())

    async def read(self, path: str) -> AsyncIterator[bytes]:
        try:
            async for piece in (await self._store.get_async(path)).stream(PIECE):
                yield bytes(piece)
        except (NotFoundError, FileNotFoundError):
            raise FileNotFoundError(path) from None
        except FAILURES as error:
            raise BackupError(f"cannot read {self.url}/{path}: {_first_line(error)}") from None

    async def paths(self) -> list[str]:
        try:
            return sorted([item["path"] async for page in self._store.list() for item in page])
        except FAILURES as error:
            raise BackupError(f"cannot list {self.url}: {_first_line(error)}") from None

    async def remove(self, paths: list[str]) -> None:
        try:
            for start in range(0, len(paths), 1000):
                await self._store.delete_async(paths[start : start + 1000])
        except FileNotFoundError:
            return
        except FAILURES as error:
            raise BackupError(f"cannot remove from {self.url}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or repr(error))[:300]
