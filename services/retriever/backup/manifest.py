"""The manifest of a backup: what it holds, with the size and the checksum of every file.

It is written last. So a folder without one is a backup that was interrupted, and nobody takes it for whole.
"""

import hashlib
import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from services.retriever.backup.errors import BackupError

__all__ = ["FORMAT", "MANIFEST", "BackedUpStream", "BackedUpTable", "BackupFile", "Manifest"]

FORMAT: Final = 1
"""Goes up with each change after which an older release could not restore a backup."""

MANIFEST: Final = "manifest.json"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class BackupFile(_Model):
    """A file by its path in the backup. `size` is in bytes, `sha256` in hexadecimal digits."""

    path: str
    size: int
    sha256: str


class BackedUpStream(_Model):
    """A stream of the broker, as its snapshot. `config` and `messages` are those from when the snapshot began."""

    name: str
    config: dict[str, Any]
    messages: int
    last_sequence: int
    file: BackupFile


class BackedUpTable(_Model):
    """A table of the index, as the rows of one of its versions."""

    name: str
    version: int
    rows: int
    files: tuple[BackupFile, ...]


class Manifest(_Model):
    """A whole backup. Times are Unix seconds. `paused_seconds` is for how long changes of the index had to wait."""

    name: str
    product: str
    broker: str
    created_at: float
    finished_at: float
    paused_seconds: float
    streams: tuple[BackedUpStream, ...]
    tables: tuple[BackedUpTable, ...] = ()
    has_index: bool = True

    @property
    def files(self) -> tuple[BackupFile, ...]:
        return (*(stream.file for stream in self.streams), *(file for table in self.tables for file in table.files))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def encode(self) -> bytes:
        content = self.model_dump(mode="json")
        return json.dumps({"format": FORMAT, "sha256": _digest(content), "backup": content}, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, place: str) -> "Manifest":
        """Raises BackupError for what is damaged, or of a later format. `place` is for its text."""
        try:
            wrapped = json.loads(data)
            number, content, digest = wrapped["format"], wrapped["backup"], wrapped["sha256"]
        except (ValueError, KeyError, TypeError):
            raise BackupError(f"{place} is damaged: it cannot be read") from None
        if not isinstance(number, int) or number > FORMAT:
            raise BackupError(
                f"{place} was written by a later release: its format is {number}, and this release knows {FORMAT}"
            )
        if _digest(content) != digest:
            raise BackupError(f"{place} is damaged: its checksum is another one")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise BackupError(f"{place} is damaged: {error.error_count()} members are wrong") from None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
