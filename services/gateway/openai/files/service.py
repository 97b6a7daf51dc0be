"""Files as OpenAI's API has them: received piece by piece into the object store, and described."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.http.multipart import Item, PartEnd, PartStart, read_parts
from services.gateway.http.object_writer import ObjectBatch, StoredObject
from services.gateway.http.problems import invalid_member
from services.gateway.openai.paging import Page
from shared.contracts.problems import Problem, ProblemType
from shared.stores.files import FileRecord

__all__ = ["FileBody", "FileDeleted", "FileForm", "FileList", "Purpose", "Received", "receive_file"]

Purpose = Literal["batch", "evals", "user_data"]
PURPOSES: Final = get_args(Purpose)
LONGEST_FIELD: Final = 256
LONGEST_NAME: Final = 512


class FileBody(BaseModel):
    """A file. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, record: FileRecord, kept_seconds: float) -> "FileBody":
        """`kept_seconds` is how long files are kept."""
        return cls(
            id=record.id,
            bytes=record.bytes,
            created_at=int(record.created_at),
            expires_at=int(record.created_at + kept_seconds),
            filename=record.filename,
            purpose=record.purpose,
        )


class FileList(Page):
    """A page of files."""

    data: list[FileBody]


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class FileForm(BaseModel):
    """An upload."""

    file: bytes = Field(json_schema_extra={"format": "binary"})
    purpose: Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    filename: str
    purpose: str
    stored: StoredObject


async def receive_file(
    body: AsyncIterator[bytes], content_type: str, batch: ObjectBatch, name: str, limit: int
) -> Received:
    """The file of a multipart form, written under this name. Raises Problem; the caller then discards the batch."""
    stored: StoredObject | None = None
    filename, purpose = "", ""
    items = read_parts(body, content_type)
    async for item in items:
        if not isinstance(item, PartStart):
            continue
        if item.field == "file":
            if stored is not None:
                raise invalid_member("file", "an upload has one file")
            filename = _checked_name(item.filename)
            stored = await _write(items, batch, name, limit)
        elif item.field == "purpose":
            purpose = await _field(items, "purpose")
        elif item.field.startswith("expires_after"):
            await _field(items, item.field)
        else:
            raise invalid_member(item.field[:80], "is not a field of an upload; send 'file' and 'purpose'")
    if stored is None:
        raise invalid_member("file", "is missing")
    if purpose not in PURPOSES:
        raise invalid_member("purpose", f"must be one of {', '.join(PURPOSES)}")
    return Received(filename=filename, purpose=purpose, stored=stored)


async def _write(items: AsyncIterator[Item], batch: ObjectBatch, name: str, limit: int) -> StoredObject:
    writer = batch.begin(name)
    async for item in items:
        if isinstance(item, PartEnd):
            break
        if isinstance(item, bytes):
            if writer.size + len(item) > limit:
                raise Problem(ProblemType.TOO_LARGE, f"A file has at most {limit:,} bytes.", limit=limit, param="file")
            await writer.write(item)
    return await writer.close()


async def _field(items: AsyncIterator[Item], name: str) -> str:
    data = bytearray()
    async for item in items:
        if isinstance(item, PartEnd):
            break
        if isinstance(item, bytes):
            data += item
        if len(data) > LONGEST_FIELD:
            raise invalid_member(name[:80], "is too long")
    return data.decode(errors="replace")


def _checked_name(name: str | None) -> str:
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise invalid_member("file", f"needs a file name of 1 to {LONGEST_NAME} printable characters")
    return name
