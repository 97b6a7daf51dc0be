"""Electronic books (.epub): the chapters in reading order, read as HTML (EPUB 3.3, EPUB 2.0.1)."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote

from lxml import etree

from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.parts import Part
from services.scheduler.ingestion.parsing.zip import open_zip, read_member
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["parse"]

_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def parse(source: Source) -> ParsedDocument:
    """Each chapter of the spine; the table of contents and pictures are not read. Chapters under digital rights
    management raise Problem ENCRYPTED_DOCUMENT."""
    with open_zip(source.data) as package:
        members = {member.filename: member for member in package.infolist()}
        if "META-INF/rights.xml" in members or _has_encrypted_text(package, members):
            raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "The book is protected against copying.")
        where = _package_file(_tree(_member(package, members, "META-INF/container.xml")))
        opf = _tree(_member(package, members, where))
        chapters, missing = _chapters(opf, posixpath.dirname(where), members)
        read = source.parts.read(_parts(package, chapters))
    found = {"title": _meta(opf, "title"), "author": _meta(opf, "creator")}
    warnings = [
        DocumentWarning(kind=WarningKind.UNREADABLE_PART, detail=f"The chapter {name} is missing in the file.")
        for name in missing
    ]
    return ParsedDocument(
        media_type=source.media_type,
        sections=tuple(Section(text=one.text, heading=one.heading[1:]) for one in read.sections),
        metadata={key: value for key, value in found.items() if value},
        warnings=(*warnings, *read.warnings),
    )


def _tree(data: bytes) -> Any:
    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))


def _member(package: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> bytes:
    if name not in members:
        raise Problem(ProblemType.BROKEN_DOCUMENT, f"It has no {name}, so it is not an electronic book.")
    return read_member(package, members[name])


def _package_file(container: Any) -> str:
    rootfile = next(container.iter(f"{_CONTAINER}rootfile"), None)
    return "" if rootfile is None else rootfile.get("full-path", "")


def _has_encrypted_text(package: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> bool:
    """Fonts may be obfuscated; text may not."""
    if "META-INF/encryption.xml" not in members:
        return False
    root = _tree(read_member(package, members["META-INF/encryption.xml"]))
    names = [element.get("URI", "") for element in root.iter("{http://www.w3.org/2001/04/xmlenc#}CipherReference")]
    return any(name.lower().endswith((".xhtml", ".html", ".htm", ".xml")) for name in names)


def _chapters(opf: Any, folder: str, members: dict[str, zipfile.ZipInfo]) -> tuple[list[zipfile.ZipInfo], list[str]]:
    """The chapters in the order of the spine, and the names of those that are not there."""
    manifest = {
        item.get("id"): item
        for item in opf.iter(f"{_OPF}item")
        if item.get("media-type") in _PAGES and "nav" not in (item.get("properties") or "").split()
    }
    chapters: list[zipfile.ZipInfo] = []
    missing: list[str] = []
    for reference in opf.iter(f"{_OPF}itemref"):
        item = manifest.get(reference.get("idref"))
        if item is None:
            continue
        name = posixpath.normpath(posixpath.join(folder, unquote(item.get("href", "").partition("#")[0])))
        if name in members:
            chapters.append(members[name])
        else:
            missing.append(name)
    return chapters, missing


def _parts(package: zipfile.ZipFile, chapters: list[zipfile.ZipInfo]) -> Iterator[Part]:
    for chapter in chapters:
        yield Part(
            name=chapter.filename + ".xhtml",
            size=chapter.file_size,
            load=partial(read_member, package, chapter),
            media_type="application/xhtml+xml",
        )


def _meta(opf: Any, name: str) -> str:
    return " ".join((opf.findtext(f".//{_DC}{name}") or "").split())
