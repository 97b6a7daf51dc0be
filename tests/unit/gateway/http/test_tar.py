"""Archives that arrive in pieces."""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator

import pytest

from services.gateway.http.tar import TarReader
from shared.contracts.problems import Problem, ProblemType


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 700):
        yield data[start : start + 700]


def read(archive: bytes) -> dict[str, bytes]:
    async def members() -> dict[str, bytes]:
        async with asyncio.timeout(10):
            reader = TarReader(pieces_of(archive)).members()
            return {member.name: b"".join([piece async for piece in member.content]) async for member in reader}

    return asyncio.run(members())


def refusal(archive: bytes) -> str:
    with pytest.raises(Problem) as caught:
        read(archive)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    return caught.value.detail


def archive_of(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def with_size(size: bytes, kind: bytes = b"0") -> bytes:
    """An archive whose only header has these 12 bytes where the size is."""
    header = bytearray(tarfile.TarInfo("weights.json").tobuf())
    header[124:136], header[156:157] = size, kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x" * 1024


def extended(record: bytes) -> bytes:
    """An archive whose file has this record in an extended header."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    return info.tobuf() + record + bytes(-len(record) % 512) + archive_of("a.json", b"{}")


def test_files_are_read_as_they_were_written() -> None:
    assert read(archive_of("folder/" + "long" * 40 + ".json", b"x" * 3000)) == {
        "folder/" + "long" * 40 + ".json": b"x" * 3000
    }


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_negative_size_is_refused(kind: bytes) -> None:
    assert "damaged" in refusal(with_size(b"\xff" * 12, kind))


def test_a_size_beyond_the_end_is_refused() -> None:
    assert "ends too early" in refusal(with_size(b"77777777777\0"))
    assert "ends too early" in refusal(with_size(b"\x80" + b"\xff" * 11))


@pytest.mark.parametrize(
    "record",
    [
        b"9" * 5000 + b" a=b\n",
        b"1 a=b\n",
        b"0 a=b\n",
        b"2 ",
        b"x a=b\n",
        b"5017 size=" + b"9" * 5006 + b"\n",
        b"9 size=-1\n",
    ],
)
def test_an_extended_header_whose_numbers_lie_is_refused(record: bytes) -> None:
    assert "damaged" in refusal(extended(record))
