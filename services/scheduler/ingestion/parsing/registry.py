"""Which parser reads which document: by suffix, then by media type, then by what the bytes look like."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final, cast

from services.scheduler.ingestion.parsing import archives
from services.scheduler.ingestion.parsing.binary import without_binary
from services.scheduler.ingestion.parsing.built_in import BUILT_IN, TEXT
from services.scheduler.ingestion.parsing.cleaning import clean
from services.scheduler.ingestion.parsing.decoding import is_binary
from services.scheduler.ingestion.parsing.document import Format, ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.parts import Parts
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["PARSING_VERSION", "Formats", "parse"]

PARSING_VERSION = 2
"""Raised whenever the same bytes may give other text, so that unchanged documents are read again."""

SNIFFED: Final = 1024
MOST_WARNINGS: Final = 20
LONGEST_WARNING: Final = 300

_JOINERS: Final = "\u200c\u200d"  # parts of the spelling of several scripts, and of emoji

Parser = Callable[[Source], ParsedDocument]


class Formats:
    """The known formats. Where two claim the same suffix, name or media type, the later one wins."""

    def __init__(self, formats: Iterable[Format] = BUILT_IN) -> None:
        self._by_suffix: dict[str, Format] = {}
        self._by_name: dict[str, Format] = {}
        self._by_type: dict[str, Format] = {}
        self._by_magic: dict[bytes, Format] = {}
        self._by_folder: dict[str, Format] = {}
        for form in formats:
            self._by_suffix.update(dict.fromkeys(form.suffixes, form))
            self._by_name.update(dict.fromkeys(form.names, form))
            self._by_type.update(dict.fromkeys((form.media_type, *form.aliases), form))
            self._by_magic.update(dict.fromkeys(form.magic, form))
            if form.zip_folder:
                self._by_folder[form.zip_folder] = form

    def parse(self, name: str, data: bytes, media_type: str | None = None) -> ParsedDocument:
        """The text of a document. `name` and `media_type` only help to recognise the format.

        Raises Problem with UNSUPPORTED_DOCUMENT, BROKEN_DOCUMENT, ENCRYPTED_DOCUMENT, EMPTY_DOCUMENT or
        DOCUMENT_LIMIT; MemoryError passes through.
        """
        return self._parse(name, data, media_type, Parts(self._parse))

    def _parse(self, name: str, data: bytes, media_type: str | None, parts: Parts) -> ParsedDocument:
        if not data:
            raise Problem(ProblemType.EMPTY_DOCUMENT, "The document has no bytes.")
        if data.startswith(archives.GZIP):
            name, data, media_type = name.removesuffix(".gz"), archives.gunzip(data), None
        form = self.find(name, data, media_type)
        source = Source(name=name, data=data, media_type=form.media_type, language=form.language, parts=parts)
        document = _run(form, source)
        sections, encoded = _sections(document)
        told = document.warnings
        if encoded:
            what = "run of encoded binary data is" if encoded == 1 else "runs of encoded binary data are"
            told += (DocumentWarning(kind=WarningKind.BINARY_DATA, detail=f"{encoded:,} {what} left out."),)
        warnings = _bounded(told)
        if not sections:
            reasons = " ".join(warning.detail for warning in warnings[:3])
            detail = f"There is nothing in it to index. {reasons}"[:LONGEST_WARNING].rstrip()
            raise Problem(ProblemType.EMPTY_DOCUMENT, detail)
        metadata = {key: _cleaned_value(value) for key, value in document.metadata.items()}
        return replace(document, sections=sections, metadata=metadata, warnings=warnings)

    def find(self, name: str, data: bytes, media_type: str | None = None) -> Format:
        """The format of a document; Problem UNSUPPORTED_DOCUMENT for what is neither known nor text."""
        base = PurePosixPath(name.replace("\\", "/")).name.lower()
        suffix = PurePosixPath(base).suffix
        declared = (media_type or "").partition(";")[0].strip().lower()
        found = self._by_suffix.get(suffix) or self._by_name.get(base) or self._by_type.get(declared)
        found = found or self._sniff(data)
        if found is None:
            raise _unsupported(suffix, declared)
        return found

    def _sniff(self, data: bytes) -> Format | None:
        """The format that the bytes show, else plain text, else None."""
        if data.startswith(archives.ZIP):
            mimetype, folders = archives.zip_marks(data)
            return self._by_type.get(mimetype) or next(
                (form for folder, form in self._by_folder.items() if folder in folders),
                self._by_magic.get(archives.ZIP),
            )
        head = data[:SNIFFED].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        for magic, form in self._by_magic.items():
            if data.startswith(magic) or head.startswith(magic):
                return form
        if data.startswith(archives.OLE):
            archives.reject_ole(data)
        return None if is_binary(data) else TEXT


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
        reason = _printable(str(error))[:200] or type(error).__name__
        detail = f"It cannot be read as {form.media_type}: {reason}"
        raise Problem(ProblemType.BROKEN_DOCUMENT, detail) from error


def _unsupported(suffix: str, declared: str) -> Problem:
    kind = suffix or declared or "without a suffix"
    return Problem(ProblemType.UNSUPPORTED_DOCUMENT, f"Documents of this kind ({kind}) are not text.")


def _sections(document: ParsedDocument) -> tuple[tuple[Section, ...], int]:
    """The sections as clean text without encoded data, and how often there was some."""
    sections, encoded = [], 0
    for section in document.sections:
        text, found = without_binary(section.text)
        encoded += found
        cleaned = _cleaned(replace(section, text=text))
        if cleaned.text.strip("\N{HORIZONTAL ELLIPSIS}\n "):
            sections.append(cleaned)
    return tuple(sections), encoded


def _cleaned(section: Section) -> Section:
    heading = tuple(title for title in (" ".join(clean(part).split()) for part in section.heading) if title)
    return Section(text=clean(section.text), heading=heading, page=section.page)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text[:1000].split()))


def _bounded(warnings: tuple[DocumentWarning, ...]) -> tuple[DocumentWarning, ...]:
    """The first ones, in bounded words; the last one says how many more there are."""
    told = [
        DocumentWarning(kind=warning.kind, detail=_printable(warning.detail)[:LONGEST_WARNING])
        for warning in warnings[:MOST_WARNINGS]
    ]
    if more := len(warnings) - len(told):
        told.append(DocumentWarning(kind=WarningKind.SKIPPED_PART, detail=f"There are {more:,} more warnings."))
    return tuple(told)


def _cleaned_value(value: str | int) -> str | int:
    if not isinstance(value, str):
        return value
    shown = "".join(c for c in clean(value) if c.isprintable() or c in _JOINERS or c.isspace())
    return " ".join(shown.split())[:500]
