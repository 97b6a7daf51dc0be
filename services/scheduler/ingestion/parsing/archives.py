"""Containers that are checked before anything is inflated: gzip, zip (OOXML) and OLE."""

from __future__ import annotations

import io
import zipfile
import zlib

from shared.contracts.problems import Problem, ProblemType

__all__ = ["GZIP", "OLE", "ZIP", "check_office", "gunzip", "office_kind", "reject_ole"]

GZIP = b"\x1f\x8b\x08"
ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

MAX_INFLATED_TEXT = 64 * 2**20
MAX_INFLATED_OFFICE = 256 * 2**20
MAX_MEMBERS = 20_000
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")  # [MS-OFFCRYPTO] 2.3.4.4


def gunzip(data: bytes) -> bytes:
    """The content of a gzip file, of one member or several, of at most MAX_INFLATED_TEXT bytes."""
    inflated = bytearray()
    while data.startswith(GZIP):
        stream = zlib.decompressobj(wbits=31)
        try:
            inflated += stream.decompress(data, MAX_INFLATED_TEXT + 1 - len(inflated))
        except zlib.error as error:
            raise Problem(ProblemType.BROKEN_DOCUMENT, "The gzip data is damaged.") from error
        if len(inflated) > MAX_INFLATED_TEXT:
            detail = f"The gzip data inflates to more than {MAX_INFLATED_TEXT // 2**20} MiB."
            raise Problem(ProblemType.DOCUMENT_LIMIT, detail)
        if not stream.eof:
            raise Problem(ProblemType.BROKEN_DOCUMENT, "The gzip data is cut off.")
        data = stream.unused_data
    if not inflated:
        raise Problem(ProblemType.EMPTY_DOCUMENT, "The gzip file is empty.")
    return bytes(inflated)


def check_office(data: bytes) -> None:
    """Pass an OOXML package that is safe to open; raise Problem for any other bytes.

    The declared sizes are what counts: zipfile never inflates a member beyond its declared size.
    """
    if data.startswith(OLE):
        reject_ole(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            members = package.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise Problem(ProblemType.BROKEN_DOCUMENT, f"It is not a valid Office file: {error}") from error
    if sum(member.file_size for member in members) > MAX_INFLATED_OFFICE or len(members) > MAX_MEMBERS:
        detail = f"The file inflates to more than {MAX_INFLATED_OFFICE // 2**20} MiB or {MAX_MEMBERS} parts."
        raise Problem(ProblemType.DOCUMENT_LIMIT, detail)
    if any(member.flag_bits & 1 for member in members):
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "Remove the password and upload the file again.")


def office_kind(data: bytes) -> str:
    """The folder of the main part ("word", "ppt", "xl", …) of an OOXML package, "" for any other zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            folders = {name.partition("/")[0] for name in package.namelist()[:MAX_MEMBERS]}
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""
    return next((kind for kind in ("word", "ppt", "xl") if kind in folders), "")


def reject_ole(data: bytes) -> None:
    """Raise the Problem of an OLE container: encrypted OOXML, or an Office format of before 2007."""
    if _ENCRYPTED_STREAM in data:
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "Remove the password and upload the file again.")
    detail = "Office files of before 2007 are not read: save the file as .docx or .pptx."
    raise Problem(ProblemType.UNSUPPORTED_DOCUMENT, detail)
