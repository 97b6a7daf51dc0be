"""Containers that are checked before anything is inflated: gzip, zip (OOXML) and OLE."""

from __future__ import annotations

import io
import zipfile
import zlib

from shared.contracts.problems import Problem, ProblemType

__all__ = [
    "BAD_ZIP",
    "GZIP",
    "OLE",
    "ZIP",
    "check_office",
    "gunzip",
    "reject_encrypted",
    "reject_encrypted_odf",
    "reject_ole",
    "zip_marks",
]

GZIP = b"\x1f\x8b\x08"
ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

MAX_INFLATED_TEXT = 64 * 2**20
MAX_INFLATED_OFFICE = 256 * 2**20
MAX_MEMBERS = 20_000
BAD_ZIP = (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, OverflowError, EOFError, RuntimeError)
"""What zipfile raises for damaged, encrypted and unknown members."""
_LONGEST_TYPE = 128
_LONGEST_MANIFEST = 2**20
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
    except BAD_ZIP as error:
        raise Problem(ProblemType.BROKEN_DOCUMENT, f"It is not a valid Office file: {error}") from error
    if sum(member.file_size for member in members) > MAX_INFLATED_OFFICE or len(members) > MAX_MEMBERS:
        detail = f"The file inflates to more than {MAX_INFLATED_OFFICE // 2**20} MiB or {MAX_MEMBERS} parts."
        raise Problem(ProblemType.DOCUMENT_LIMIT, detail)
    if any(member.flag_bits & 1 for member in members):
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "Remove the password and upload the file again.")


def zip_marks(data: bytes) -> tuple[str, frozenset[str]]:
    """What a zip archive says that it is: the content of its member `mimetype` (EPUB OCF 3.3, ODF 1.3 part 2), "" for
    none, and its outermost folders."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            names = package.namelist()[:MAX_MEMBERS]
            mimetype = package.open("mimetype").read(_LONGEST_TYPE) if "mimetype" in names else b""
    except (*BAD_ZIP, KeyError):
        return "", frozenset()
    return mimetype.decode("latin-1").strip(), frozenset(name.partition("/")[0] for name in names)


def reject_encrypted(data: bytes) -> None:
    """Raise the Problem of an OLE container that holds encrypted OOXML; pass any other."""
    if _ENCRYPTED_STREAM in data:
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "Remove the password and upload the file again.")


def reject_encrypted_odf(data: bytes) -> None:
    """Raise the Problem of an OpenDocument package whose manifest names encrypted parts (ODF 1.3 part 2, 4.8)."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            manifest = package.open("META-INF/manifest.xml").read(_LONGEST_MANIFEST)
    except (*BAD_ZIP, KeyError):
        return
    if b"encryption-data" in manifest:
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "Remove the password and upload the file again.")


def reject_ole(data: bytes) -> None:
    """Raise the Problem of an OLE container: encrypted OOXML, or an Office format of before 2007."""
    reject_encrypted(data)
    detail = "Word and PowerPoint files of before 2007 are not read: save the file as .docx or .pptx."
    raise Problem(ProblemType.UNSUPPORTED_DOCUMENT, detail)
