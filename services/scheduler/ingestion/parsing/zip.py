"""Zip archives: each member as a document of its own, under its name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from services.scheduler.ingestion.parsing.archives import BAD_ZIP
from services.scheduler.ingestion.parsing.document import ParsedDocument, Source
from services.scheduler.ingestion.parsing.parts import MAX_PARTS, MAX_PARTS_BYTES, Part
from shared.contracts.problems import Problem, ProblemType

__all__ = ["MAX_RATIO", "open_zip", "parse", "read_member"]

MAX_RATIO = 200
"""How much larger than the archive its members may be, once they have more than HARMLESS_BYTES: text compresses to a
fifth, what is made to do harm to a thousandth."""
HARMLESS_BYTES = 16 * 2**20

_UTF8 = 0x800  # the flag of a name in UTF-8 (APPNOTE 4.4.4, bit 11)


def parse(source: Source) -> ParsedDocument:
    """Members in the order of the archive; folders and hidden files are left out, as in folders.

    What cannot be read is a warning. Raises Problem DOCUMENT_LIMIT for an archive that is made to do harm.
    """
    with open_zip(source.data) as archive:
        members = [member for member in archive.infolist() if not member.is_dir() and not _is_hidden(_name(member))]
        if len(members) > MAX_PARTS:
            raise Problem(ProblemType.DOCUMENT_LIMIT, f"The archive has more than {MAX_PARTS:,} files.")
        if members and all(member.flag_bits & 1 for member in members):
            raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "Remove the password and upload the archive again.")
        read = source.parts.read(_parts(archive, members))
    return ParsedDocument(media_type=source.media_type, sections=tuple(read.sections), warnings=tuple(read.warnings))


def open_zip(data: bytes) -> zipfile.ZipFile:
    """An archive whose declared sizes, beyond which zipfile inflates nothing, are within bounds. Raises Problem."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except BAD_ZIP as error:
        raise Problem(ProblemType.BROKEN_DOCUMENT, f"It is not a valid zip archive: {error}") from error
    inflated = sum(member.file_size for member in archive.infolist())
    if inflated > MAX_PARTS_BYTES:
        detail = f"The archive inflates to more than {MAX_PARTS_BYTES // 2**20} MiB."
        raise Problem(ProblemType.DOCUMENT_LIMIT, detail)
    if inflated > max(HARMLESS_BYTES, MAX_RATIO * len(data)):
        raise Problem(ProblemType.DOCUMENT_LIMIT, f"The archive inflates to more than {MAX_RATIO} times its size.")
    return archive


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Raises Problem ENCRYPTED_DOCUMENT or BROKEN_DOCUMENT."""
    if member.flag_bits & 1:
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "It needs a password.")
    try:
        return archive.read(member)
    except BAD_ZIP as error:
        raise Problem(ProblemType.BROKEN_DOCUMENT, f"It cannot be unpacked: {error}") from error


def _parts(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[Part]:
    for member in members:
        yield Part(name=_name(member), size=member.file_size, load=partial(read_member, archive, member))


def _name(member: zipfile.ZipInfo) -> str:
    """Many programs write UTF-8 and do not say so; what is no UTF-8 is code page 437, as the format has it."""
    name = member.filename
    if not member.flag_bits & _UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
