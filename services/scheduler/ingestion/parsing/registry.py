"""Which parser reads which document: by suffix, then by media type, then by what the bytes look like."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import cast

from services.scheduler.ingestion.parsing import archives
from services.scheduler.ingestion.parsing.cleaning import clean
from services.scheduler.ingestion.parsing.decoding import is_binary
from services.scheduler.ingestion.parsing.document import Format, ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.languages import LANGUAGES
from shared.contracts.problems import Problem, ProblemType

__all__ = ["BUILT_IN", "PARSING_VERSION", "Formats", "parse"]

PARSING_VERSION = 1
"""Raised whenever the same bytes may give other text, so that unchanged documents are read again."""

Parser = Callable[[Source], ParsedDocument]

_HERE = __package__
_OOXML = "application/vnd.openxmlformats-officedocument."
TEXT = Format(
    media_type="text/plain",
    parser=f"{_HERE}.plain:parse",
    suffixes=(".txt", ".text", ".log", ".adoc", ".org", ".tex", ".srt", ".vtt"),
)
PDF = Format(
    media_type="application/pdf",
    parser=f"{_HERE}.pdf:parse",
    suffixes=(".pdf",),
    aliases=("application/x-pdf",),
)
DOCX = Format(
    media_type=f"{_OOXML}wordprocessingml.document",
    parser=f"{_HERE}.word:parse",
    suffixes=(".docx", ".docm", ".dotx"),
)
PPTX = Format(
    media_type=f"{_OOXML}presentationml.presentation",
    parser=f"{_HERE}.slides:parse",
    suffixes=(".pptx", ".pptm", ".ppsx"),
)
HTML = Format(
    media_type="text/html",
    parser=f"{_HERE}.html:parse",
    suffixes=(".html", ".htm", ".xhtml"),
    aliases=("application/xhtml+xml",),
)
BUILT_IN: tuple[Format, ...] = (
    TEXT,
    PDF,
    DOCX,
    PPTX,
    HTML,
    Format(
        media_type="text/markdown",
        parser=f"{_HERE}.markdown:parse",
        suffixes=(".md", ".markdown", ".mdx"),
        aliases=("text/x-markdown",),
    ),
    Format(
        media_type="text/x-rst",
        parser=f"{_HERE}.rst:parse",
        suffixes=(".rst", ".rest"),
        aliases=("text/prs.fallenstein.rst",),
    ),
    Format(media_type="text/csv", parser=f"{_HERE}.table:parse_csv", suffixes=(".csv",)),
    Format(media_type="text/tab-separated-values", parser=f"{_HERE}.table:parse_tsv", suffixes=(".tsv",)),
    Format(media_type="application/json", parser=f"{_HERE}.records:parse_json", suffixes=(".json",)),
    Format(
        media_type="application/jsonl",
        parser=f"{_HERE}.records:parse_jsonl",
        suffixes=(".jsonl", ".ndjson"),
        aliases=("application/x-ndjson", "application/x-jsonlines"),
    ),
    *(
        Format(
            media_type=language.media_type,
            parser=f"{_HERE}.plain:parse",
            suffixes=language.suffixes,
            names=language.names,
            language=language.name,
        )
        for language in LANGUAGES
    ),
)


class Formats:
    """The known formats. Where two claim the same suffix, name or media type, the later one wins."""

    def __init__(self, formats: Iterable[Format] = BUILT_IN) -> None:
        self._by_suffix: dict[str, Format] = {}
        self._by_name: dict[str, Format] = {}
        self._by_type: dict[str, Format] = {}
        for form in formats:
            self._by_suffix.update(dict.fromkeys(form.suffixes, form))
            self._by_name.update(dict.fromkeys(form.names, form))
            self._by_type.update(dict.fromkeys((form.media_type, *form.aliases), form))

    def parse(self, name: str, data: bytes, media_type: str | None = None) -> ParsedDocument:
        """The text of a document. `name` and `media_type` only help to recognise the format.

        Raises Problem with UNSUPPORTED_DOCUMENT, BROKEN_DOCUMENT, ENCRYPTED_DOCUMENT, EMPTY_DOCUMENT or
        DOCUMENT_LIMIT; MemoryError passes through.
        """
        if not data:
            raise Problem(ProblemType.EMPTY_DOCUMENT, "The document has no bytes.")
        if data.startswith(archives.GZIP):
            name, data, media_type = name.removesuffix(".gz"), archives.gunzip(data), None
        form = self.find(name, data, media_type)
        source = Source(name=name, data=data, media_type=form.media_type, language=form.language)
        document = _run(form, source)
        sections = tuple(filter(_has_text, map(_cleaned, document.sections)))
        if not sections:
            raise Problem(ProblemType.EMPTY_DOCUMENT, "There is nothing in it to index.")
        metadata = {key: _cleaned_value(value) for key, value in document.metadata.items()}
        return replace(document, sections=sections, metadata=metadata)

    def find(self, name: str, data: bytes, media_type: str | None = None) -> Format:
        """The format of a document; Problem UNSUPPORTED_DOCUMENT for what is neither known nor text."""
        base = PurePosixPath(name.replace("\\", "/")).name.lower()
        suffix = PurePosixPath(base).suffix
        declared = (media_type or "").partition(";")[0].strip().lower()
        found = self._by_suffix.get(suffix) or self._by_name.get(base) or self._by_type.get(declared)
        found = found or _sniff(data)
        if found is None:
            raise _unsupported(suffix, declared)
        return found


def parse(name: str, data: bytes, media_type: str | None = None) -> ParsedDocument:
    """`Formats.parse` with the built-in formats."""
    return _BUILT_IN.parse(name, data, media_type)


_BUILT_IN = Formats()


def _run(form: Format, source: Source) -> ParsedDocument:
    parser = cast("Parser", pkgutil.resolve_name(form.parser))
    try:
        return parser(source)
    except (Problem, MemoryError):
        raise
    except RecursionError as error:
        raise Problem(ProblemType.BROKEN_DOCUMENT, "The document is nested too deeply.") from error
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        reason = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in said)
        detail = f"It cannot be read as {form.media_type}: {reason}"
        raise Problem(ProblemType.BROKEN_DOCUMENT, detail) from error


def _sniff(data: bytes) -> Format | None:
    """The format that the bytes show, else plain text, else None."""
    if data.startswith(b"%PDF-"):
        return PDF
    if data.startswith(archives.ZIP):
        return {"word": DOCX, "ppt": PPTX}.get(archives.office_kind(data))
    if data.startswith(archives.OLE):
        archives.reject_ole(data)
    if is_binary(data):
        return None
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return HTML if head.startswith((b"<!doctype html", b"<html")) else TEXT


def _unsupported(suffix: str, declared: str) -> Problem:
    kind = suffix or declared or "without a suffix"
    return Problem(ProblemType.UNSUPPORTED_DOCUMENT, f"Documents of this kind ({kind}) are not text.")


def _cleaned(section: Section) -> Section:
    heading = tuple(title for title in (" ".join(clean(part).split()) for part in section.heading) if title)
    return Section(text=clean(section.text), heading=heading, page=section.page)


def _cleaned_value(value: str | int) -> str | int:
    return " ".join(clean(value).split())[:500] if isinstance(value, str) else value


def _has_text(section: Section) -> bool:
    return bool(section.text)
