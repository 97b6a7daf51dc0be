"""Mails saved by Outlook (.msg): the text, then the attachments as documents of their own ([MS-OXMSG])."""

from __future__ import annotations

import datetime
import io
import struct
from collections.abc import Iterator
from typing import Any

import olefile

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.mail import with_headers
from services.scheduler.ingestion.parsing.parts import MAX_DEPTH, MAX_PARTS, Part
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["parse"]

# Property ids of [MS-OXPROPS].
_SUBJECT, _SENDER, _SENDER_ADDRESS, _TO, _CC = 0x0037, 0x0C1A, 0x5D01, 0x0E04, 0x0E03
_BODY, _HTML, _RTF = 0x1000, 0x1013, 0x1009
_LONG_NAME, _SHORT_NAME, _DATA, _MEDIA_TYPE, _DISPLAY_NAME = 0x3707, 0x3704, 0x3701, 0x370E, 0x3001
_SENT, _DELIVERED = 0x0039, 0x0E06
_STRING, _STRING8, _BINARY, _OBJECT, _TIME = 0x001F, 0x001E, 0x0102, 0x000D, 0x0040
_HEADER_BYTES = {True: 32, False: 24}  # of the property stream, outermost and embedded
_EPOCH = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
_MOST_STREAM_BYTES = 64 * 2**20


def parse(source: Source) -> ParsedDocument:
    """The headers that people read, the plain text of the body, else its HTML, then each attachment under its name."""
    try:
        container = olefile.OleFileIO(io.BytesIO(source.data), raise_defects=olefile.DEFECT_INCORRECT)
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise Problem(ProblemType.BROKEN_DOCUMENT, f"It is not a valid Outlook mail: {error}") from error
    with container:
        return _read(_Item(container, ()), source, 0)


def _read(item: _Item, source: Source, depth: int) -> ParsedDocument:
    if depth >= MAX_DEPTH:
        raise Problem(ProblemType.DOCUMENT_LIMIT, f"Mails are attached to each other more than {MAX_DEPTH} times.")
    sender = " ".join(filter(None, (item.text(_SENDER), _in_brackets(item.text(_SENDER_ADDRESS)))))
    subject = item.text(_SUBJECT)
    headers = {"From": sender, "To": item.text(_TO), "Cc": item.text(_CC), "Date": item.time(), "Subject": subject}
    headers = {name: value for name, value in headers.items() if value}
    texts: list[Section] = []
    warnings: list[DocumentWarning] = []
    body = _body(item)
    if body is not None:
        read = source.parts.read([body])
        texts += read.sections
        warnings += read.warnings
    elif item.has(_RTF):
        detail = "The text of the mail is only there as rich text and is not read: save the mail as .eml."
        warnings.append(DocumentWarning(kind=WarningKind.SKIPPED_PART, detail=detail))
    sections = with_headers(headers, texts)
    for number, attached in enumerate(item.attachments(), start=1):
        if (inner := attached.embedded()) is not None:
            document = _read(inner, source, depth + 1)
            sections += document.sections
            warnings += document.warnings
        else:
            read = source.parts.read([_part(attached, number)])
            sections += read.sections
            warnings += read.warnings
    found = {"title": subject, "author": sender}
    return ParsedDocument(
        media_type=source.media_type,
        sections=tuple(sections),
        metadata={key: value for key, value in found.items() if value},
        warnings=tuple(warnings),
    )


def _in_brackets(address: str) -> str:
    return f"<{address}>" if address else ""


def _body(item: _Item) -> Part | None:
    if (text := item.text(_BODY, lines=True)).strip():
        data = text.encode("utf-8", "replace")
        return Part(name="", size=len(data), load=lambda: data, media_type="text/plain")
    html = item.stream(_HTML, _BINARY) or item.text(_HTML).encode("utf-8", "replace")
    return Part(name="", size=len(html), load=lambda: html, media_type="text/html") if html.strip() else None


def _part(item: _Item, number: int) -> Part:
    data = item.stream(_DATA, _BINARY)
    name = item.text(_LONG_NAME) or item.text(_SHORT_NAME) or item.text(_DISPLAY_NAME) or f"attachment {number}"
    return Part(name=name, size=len(data), load=lambda: data, media_type=item.text(_MEDIA_TYPE) or None)


class _Item:
    """A message or an attachment: a storage with a stream for each property."""

    def __init__(self, container: Any, path: tuple[str, ...]) -> None:
        self._container = container
        self._path = path

    def has(self, name: int) -> bool:
        return bool(self._container.exists([*self._path, _stream_name(name, _BINARY)]))

    def stream(self, name: int, kind: int) -> bytes:
        """The bytes of a property; none where it is not there."""
        path = [*self._path, _stream_name(name, kind)]
        if not self._container.exists(path):
            return b""
        data: bytes = self._container.openstream(path).read(_MOST_STREAM_BYTES)
        return data

    def text(self, name: int, *, lines: bool = False) -> str:
        """A property of text, in one line unless it is a text of `lines`."""
        wide = self.stream(name, _STRING).decode("utf-16-le", "replace")
        text = (wide or _decoded(self.stream(name, _STRING8))).rstrip("\0")
        return text if lines else " ".join(text.split())

    def time(self) -> str:
        """When it was sent, as ISO 8601 in UTC."""
        properties = self._container
        path = [*self._path, "__properties_version1.0"]
        if not properties.exists(path):
            return ""
        data = properties.openstream(path).read(_MOST_STREAM_BYTES)
        found = {}
        for place in range(_HEADER_BYTES[not self._path], len(data) - 15, 16):
            kind, name, _, value = struct.unpack_from("<HHIQ", data, place)
            if kind == _TIME and name in (_SENT, _DELIVERED):
                found[name] = value
        ticks = found.get(_SENT) or found.get(_DELIVERED)
        try:
            sent = _EPOCH + datetime.timedelta(microseconds=ticks // 10) if ticks else None
        except OverflowError:
            return ""
        return "" if sent is None else sent.strftime("%Y-%m-%d %H:%M UTC")

    def attachments(self) -> Iterator[_Item]:
        names = {
            entry[len(self._path)]
            for entry in self._container.listdir(streams=True, storages=True)
            if len(entry) > len(self._path) and tuple(entry[: len(self._path)]) == self._path
        }
        numbered = sorted(name for name in names if name.lower().startswith("__attach_version1.0_"))
        for name in numbered[:MAX_PARTS]:
            yield _Item(self._container, (*self._path, name))

    def embedded(self) -> _Item | None:
        """The mail that an attachment is, where it is one."""
        path = (*self._path, _stream_name(_DATA, _OBJECT))
        return _Item(self._container, path) if self._container.exists([*path, "__properties_version1.0"]) else None


def _decoded(data: bytes) -> str:
    return decode(data) if data.strip(b"\0") else ""


def _stream_name(name: int, kind: int) -> str:
    return f"__substg1.0_{name:04X}{kind:04X}"
