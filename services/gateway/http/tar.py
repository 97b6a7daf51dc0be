"""Tar archives as they arrive and as they are sent, one piece at a time.

The format is POSIX's ustar with the long names of GNU tar and of pax. Python's own reader takes headers of any length
into memory, so it is not for archives of others.
"""

import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from shared.contracts.problems import Problem, ProblemType

__all__ = ["TAR", "Member", "TarReader", "check_sums", "refused", "tar_end", "tar_header", "tar_padding"]

TAR: Final = "application/x-tar"

BLOCK: Final = 512
LONGEST_HEADER: Final = 64 * 1024
"""Bytes of an extended header, such as a long name."""

LONGEST_NUMBER: Final = 20
"""Digits of a number in an extended header."""

PIECE: Final = 2**20

LONG_NAME: Final = b"L"
PAX: Final = b"x"
PAX_GLOBAL: Final = b"g"
FILES: Final = frozenset({b"0", b"\0", b"7"})
FOLDER: Final = b"5"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive; `content` has to be read before the next one comes."""

    name: str
    size: int
    content: AsyncIterator[bytes]


class TarReader:
    """The files of an archive that arrives in pieces. Raises Problem INVALID_REQUEST for what is no plain archive."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._held = bytearray()

    async def members(self) -> AsyncGenerator[Member, None]:
        """The files in their order; folders are passed over, links and devices refused."""
        said: dict[str, str] = {}
        while (header := await self._header()) is not None:
            kind = header.type
            if kind in (LONG_NAME, PAX, PAX_GLOBAL):
                data = await self._extended(header)
                if kind == LONG_NAME:
                    said["path"] = _text(data.rstrip(b"\0"))
                elif kind == PAX:
                    said |= _pax(data)
                continue
            name, size = said.get("path", header.name), _number(said.get("size"), header.size)
            said = {}
            if kind == FOLDER:
                continue
            if kind not in FILES:
                raise refused(f"{name[:80]!r} is a link or a device. Put the file itself there.")
            left = _Left(size)
            yield Member(name.removeprefix("./"), size, self._content(left))
            async for _ in self._content(left):
                continue
            await self._take(-size % BLOCK)

    async def _header(self) -> tarfile.TarInfo | None:
        block = await self._take(BLOCK)
        if block == bytes(BLOCK):
            async for _ in self._pieces:
                continue  # what pads the end
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError):
            raise refused("The body is not a tar archive, or damaged. Send it without compression.") from None
        if header.size < 0:  # GNU's form for large numbers has a sign
            raise refused("A header is damaged.")
        return header

    async def _extended(self, header: tarfile.TarInfo) -> bytes:
        if header.size > LONGEST_HEADER:
            raise refused(f"A header has more than {LONGEST_HEADER:,} bytes.")
        data = await self._take(header.size)
        await self._take(-header.size % BLOCK)
        return data

    async def _content(self, left: "_Left") -> AsyncIterator[bytes]:
        while left.bytes:
            piece = await self._some(min(left.bytes, PIECE))
            left.bytes -= len(piece)
            yield piece

    async def _take(self, count: int) -> bytes:
        while len(self._held) < count:
            self._held += await self._next()
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    async def _some(self, most: int) -> bytes:
        if not self._held:
            self._held += await self._next()
        return await self._take(min(most, len(self._held)))

    async def _next(self) -> bytes:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise refused("The archive ends too early.")
        return piece


@dataclass(slots=True)
class _Left:
    bytes: int


def refused(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"The archive is refused. {detail}")


def check_sums(sums: Mapping[str, str], written: Mapping[str, str]) -> None:
    """Compare the checksums that an archive holds with those of its files, both by name. Raises Problem INVALID_REQUEST
    that names the first difference and says of which kind it is."""
    names = (name for name in sums.keys() | written.keys() if sums.get(name) != written.get(name))
    if (first := min(names, default=None)) is None:
        return
    if first not in written:
        how = f"they name {first[:80]!r}, which is not among the files"
    elif first not in sums:
        how = f"they do not name {first[:80]!r}"
    else:
        how = f"{first[:80]!r} has other bytes"
    raise refused(f"Its checksums are not those of its files: {how}.")


def tar_header(name: str, size: int) -> bytes:
    """What comes before a file's bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def tar_padding(size: int) -> bytes:
    """What comes after a file's bytes."""
    return bytes(-size % BLOCK)


def tar_end() -> bytes:
    return bytes(2 * BLOCK)


def _pax(data: bytes) -> dict[str, str]:
    """The records of an extended header: `<length> <keyword>=<value>` and a line feed, each."""
    found = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not len(length) + 1 < _number(_text(length), 0) <= len(data):
            raise refused("An extended header is damaged.")
        record, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
        keyword, _, value = record.partition(b"=")
        found[_text(keyword)] = _text(value)
    return found


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise refused("A name in it is not UTF-8.") from None


def _number(said: str | None, usual: int) -> int:
    if said is None:
        return usual
    if not said.isdecimal() or len(said) > LONGEST_NUMBER:
        raise refused("An extended header is damaged.")
    return int(said)
