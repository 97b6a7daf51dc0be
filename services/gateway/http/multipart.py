"""multipart/form-data (RFC 7578), read part by part and piece by piece as it arrives."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.contracts.documents import spell_bytes
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Item", "PartEnd", "PartStart", "read_parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStart:
    """A part begins. `filename` is None for a plain field; `media_type` is '' where the sender names none.

    Bytes of a file name that are not UTF-8 are spelled by `spell_bytes`.
    """

    field: str
    filename: str | None
    media_type: str


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part that began last is complete."""


Item = PartStart | bytes | PartEnd

LONGEST_MEDIA_TYPE: Final = 127
LONGEST_BOUNDARY: Final = 200


async def read_parts(body: AsyncIterator[bytes], content_type: str) -> AsyncIterator[Item]:
    """Each part as its start, its bytes in pieces, and its end. Raises Problem INVALID_REQUEST for a broken body."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise _broken("the Content-Type header names no boundary")
    if len(boundary) > LONGEST_BOUNDARY:
        raise _broken(f"its boundary has more than {LONGEST_BOUNDARY} bytes")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        async for chunk in body:
            parser.write(chunk)
            for item in reader.take():
                yield item
    except FormParserError as error:
        raise _broken(str(error)) from None
    if not reader.complete:
        raise _broken("it ends before its closing boundary")


class _Reader:
    """Collects the items of the parser's callbacks between two pieces of the body."""

    def __init__(self) -> None:
        self.complete = False
        self._items: list[Item] = []
        self._headers: dict[str, str] = {}
        self._name = bytearray()
        self._value = bytearray()

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_part,
            "on_part_data": lambda data, start, end: self._items.append(bytes(data[start:end])),
            "on_part_end": lambda: self._items.append(PartEnd()),
            "on_end": self._end,
        }

    def take(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _end_header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "surrogateescape")
        self._name.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        # The parser of header options takes latin-1 and returns the bytes of UTF-8 unchanged.
        disposition = self._headers.get("content-disposition", "")
        disposition = disposition.encode("utf-8", "surrogateescape").decode("latin-1")
        kind, options = parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            raise _broken("a part has no 'Content-Disposition: form-data' with a name")
        filename = options.get(b"filename")
        media_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        self._items.append(
            PartStart(
                field=_text(options[b"name"]),
                filename=None if filename is None else spell_bytes(filename.decode("utf-8", "surrogateescape")),
                media_type=media_type if media_type.isascii() and len(media_type) <= LONGEST_MEDIA_TYPE else "",
            )
        )

    def _end(self) -> None:
        self.complete = True


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _broken("a header is not UTF-8") from None


def _broken(why: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"The multipart body cannot be read: {why}.")
