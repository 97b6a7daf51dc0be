"""Files of OpenAI's Files API: what was uploaded for jobs, and what batches have made. Their bytes are artifacts."""

import hashlib
import re
import secrets
import time
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from shared.contracts.envelope import Wire
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import snapshot
from shared.nats.subjects import FILES

__all__ = ["FileRecord", "Files", "file_id"]

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
        return f"file-{hashlib.sha256(origin.encode()).hexdigest()[:24]}"
    return f"file-{time.time_ns() // 1_000_000:011x}{secrets.token_hex(7)}"


class Files:
    """The records of all files. They go when their artifacts do, which is when the history of jobs goes."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def put(self, record: FileRecord) -> None:
        """Keep a record, instead of the earlier one with its id."""
        await (await self._open()).put(f"{record.tenant}.{record.id}", record.model_dump_json().encode())

    async def get(self, tenant: str, file: str) -> FileRecord:
        """Raises Problem NOT_FOUND."""
        missing = Problem(ProblemType.NOT_FOUND, f"There is no file '{file[:80]}'.")
        if not ID.fullmatch(file):
            raise missing
        try:
            entry = await (await self._open()).get(f"{tenant}.{file}")
        except KeyNotFoundError:
            raise missing from None
        return FileRecord.model_validate_json(entry.value or b"")

    async def list(self, tenant: str) -> list[FileRecord]:
        """All files, newest first."""
        bucket = await self._open()
        found = [FileRecord.model_validate_json(value) async for _, value in snapshot(bucket, f"{tenant}.>")]
        return sorted(found, key=lambda record: (record.created_at, record.id), reverse=True)

    async def delete(self, record: FileRecord) -> None:
        """One that is not there is no error."""
        await (await self._open()).purge(f"{record.tenant}.{record.id}")

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(FILES)
        return self._bucket
