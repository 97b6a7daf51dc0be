"""Files of OpenAI's Files API: what was uploaded for jobs, and what batches have made. Their bytes are artifacts."""

import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from typing import Final

from nats.js import JetStreamContext
from pydantic import JsonValue

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.wire import Wire, texts_in
from shared.nats.kv import Repository
from shared.nats.subjects import FILES

__all__ = ["FileRecord", "Files", "file_id", "ids_in"]

ID: Final = re.compile(r"file-[A-Za-z0-9_-]{1,59}")


class FileRecord(Wire):
    """A file. `artifact` is the name of its bytes, `created_at` Unix seconds."""

    id: str
    tenant: str
    filename: str
    purpose: str
    bytes: int
    artifact: str
    created_at: float


def file_id(origin: str | None = None) -> str:
    """A new id that sorts by time; with an origin, the one id that it stands for."""
    if origin is not None:
        return f"file-{hashlib.sha256(origin.encode()).hexdigest()[:32]}"
    return f"file-{time.time_ns() // 1_000_000:011x}{secrets.token_hex(7)}"


def ids_in(value: JsonValue) -> Iterator[str]:
    """The texts anywhere in it that are written as a file's id is."""
    return (text for text in texts_in(value) if ID.fullmatch(text))


class Files:
    """The records of all files. They go when their artifacts do, which is when the history of jobs goes."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, FILES, FileRecord.model_validate_json)

    async def put(self, record: FileRecord) -> None:
        """Keep a record, instead of the earlier one with its id."""
        await self._records.put(f"{record.tenant}.{record.id}", record)

    async def get(self, tenant: str, file: str) -> FileRecord:
        """Raises Problem NOT_FOUND."""
        record = await self._records.get(f"{tenant}.{file}") if ID.fullmatch(file) else None
        if record is None:
            raise Problem(ProblemType.NOT_FOUND, f"There is no file '{file[:80]}'.")
        return record

    async def list(self, tenant: str) -> list[FileRecord]:
        """All files, newest first."""
        found = await self._records.list(f"{tenant}.>")
        return sorted(found, key=lambda record: (record.created_at, record.id), reverse=True)

    async def delete(self, record: FileRecord) -> None:
        """A record that is not there is not an error."""
        await self._records.purge(f"{record.tenant}.{record.id}")
