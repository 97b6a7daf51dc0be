"""Stores the documents of an upload within the limits, from a form or from JSON."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Final

from services.gateway.http.models import TextDocuments
from services.gateway.http.multipart import Item, PartEnd, PartStart, read_parts
from services.gateway.http.object_writer import ObjectBatch, ObjectWriter
from services.gateway.settings import GatewaySettings
from shared.contracts.documents import check_document_name
from shared.contracts.envelope import Scalar
from shared.contracts.filters import validate_metadata
from shared.contracts.jobs import DocumentRef
from shared.contracts.principals import check_allowed
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Upload"]

MAX_METADATA_BYTES: Final = 64 * 1024
GENERIC: Final = frozenset({"", "application/octet-stream"})


class Upload:
    """One upload into one batch of objects. Methods raise Problem; the caller then discards the batch."""

    def __init__(self, batch: ObjectBatch, settings: GatewaySettings, tenant: str) -> None:
        self._batch = batch
        self._settings = settings
        self._tenant = tenant
        self._names: set[str] = set()
        self._documents: list[DocumentRef] = []
        self._metadata: dict[str, Scalar] | None = None
        self._allowed: tuple[str, ...] | None = None

    async def read_form(self, body: AsyncIterator[bytes], content_type: str) -> tuple[DocumentRef, ...]:
        """The documents of a multipart body: parts `files`, and `metadata` and `allowed` for all of them."""
        items = read_parts(body, content_type)
        async for item in items:
            if not isinstance(item, PartStart):
                continue
            if item.field == "files":
                await self._read_file(item, items)
            elif item.field == "metadata":
                await self._read_metadata(items)
            elif item.field == "allowed":
                await self._read_allowed(items)
            else:
                known = "'files', 'metadata' and 'allowed'"
                raise _invalid(f"The form has an unknown field {item.field[:80]!r}; use {known}.")
        if not self._documents:
            raise _invalid("The form has no file; send each as a part named 'files' with a file name.")
        metadata = self._metadata or {}
        about = {"metadata": metadata, "allowed": self._allowed}
        return tuple(document.model_copy(update=about) for document in self._documents)

    async def store_texts(self, texts: TextDocuments) -> tuple[DocumentRef, ...]:
        """Documents given as texts."""
        for text in texts.documents:
            name = self._reserve_name(text.name)
            metadata = validate_metadata(text.metadata)
            writer = self._batch.begin(owner=self._tenant)
            await self._write(writer, text.text.encode(), name)
            await self._add_document(writer, name, "text/plain", metadata, allowed=text.allowed)
        return tuple(self._documents)

    async def _read_file(self, part: PartStart, items: AsyncIterator[Item]) -> None:
        if not part.filename:
            raise _invalid("A part 'files' has no file name; it becomes the document's name.")
        name = self._reserve_name(part.filename)
        writer = self._batch.begin(owner=self._tenant)
        async for item in items:
            if isinstance(item, bytes):
                await self._write(writer, item, name)
            elif isinstance(item, PartEnd):
                break
        await self._add_document(writer, name, None if part.media_type in GENERIC else part.media_type, {})

    async def _read_metadata(self, items: AsyncIterator[Item]) -> None:
        if self._metadata is not None:
            raise _invalid("The form has more than one field 'metadata'.")
        self._metadata = validate_metadata(await _read_json(items, "metadata"))

    async def _read_allowed(self, items: AsyncIterator[Item]) -> None:
        if self._allowed is not None:
            raise _invalid("The form has more than one field 'allowed'.")
        listed = await _read_json(items, "allowed")
        if listed is None:
            return
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise _invalid("The field 'allowed' is not a JSON list of texts.")
        self._allowed = check_allowed(listed)

    def _reserve_name(self, name: str) -> str:
        if len(self._documents) >= self._settings.max_files:
            limit = self._settings.max_files
            raise Problem(ProblemType.TOO_LARGE, f"One upload takes at most {limit:,} documents.", limit=limit)
        name = check_document_name(name)
        if name in self._names:
            raise Problem(ProblemType.INVALID_NAME, f"The upload has two documents named {name[:80]!r}.")
        self._names.add(name)
        return name

    async def _write(self, writer: ObjectWriter, data: bytes, name: str) -> None:
        limit = self._settings.max_file_bytes
        if writer.size + len(data) > limit:
            detail = f"The document {name[:80]!r} has more than the {limit:,} bytes that one may have."
            raise Problem(ProblemType.TOO_LARGE, detail, document=name, limit=limit)
        await writer.write(data)

    async def _add_document(
        self,
        writer: ObjectWriter,
        name: str,
        media_type: str | None,
        metadata: Mapping[str, Scalar],
        *,
        allowed: tuple[str, ...] | None = None,
    ) -> None:
        stored = await writer.close()
        self._documents.append(
            DocumentRef(
                name=name,
                object=stored.name,
                sha256=stored.sha256,
                bytes=stored.bytes,
                media_type=media_type,
                metadata=dict(metadata),
                allowed=allowed,
            )
        )


async def _read_json(items: AsyncIterator[Item], field: str) -> object:
    """The JSON of a field of the form. Raises Problem INVALID_METADATA, INVALID_REQUEST or TOO_LARGE."""
    data = bytearray()
    async for item in items:
        if isinstance(item, PartEnd):
            break
        if isinstance(item, bytes):
            data += item
        if len(data) > MAX_METADATA_BYTES:
            detail = f"The field '{field}' has more than {MAX_METADATA_BYTES:,} bytes."
            raise Problem(ProblemType.TOO_LARGE, detail)
    try:
        parsed: object = json.loads(data)
    except (ValueError, RecursionError):
        if field == "metadata":
            raise Problem(ProblemType.INVALID_METADATA, "The field 'metadata' is not a JSON object.") from None
        raise _invalid(f"The field '{field}' is not JSON.") from None
    return parsed


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, detail)
