"""PDF: the text layer, one section a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace

from pypdf import PageObject, PdfReader
from pypdf.errors import DependencyError, LimitReachedError

from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["parse"]

_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_SOFT_HYPHEN = re.compile("\u00ad\n?")
_BROKEN = re.compile(r"(?<![^\W_])([^\W_]+)[-\u2010][ \t]*\n[ \t]*([^\W_]+)")
_COMPOUND = re.compile(r"[^\W\d_]+-[^\W\d_]+")
_PREFIXES = frozenset(
    [
        "all",
        "co",
        "cross",
        "e",
        "ex",
        "half",
        "high",
        "long",
        "low",
        "mid",
        "multi",
        "non",
        "one",
        "post",
        "pre",
        "self",
        "short",
        "two",
        "well",
    ]
)
_BLANK_PAGE_BYTES = 1_000
_SHOWN_RANGES = 5
_LOCKED = "The PDF needs a password: remove it and upload the file again."


def parse(source: Source) -> ParsedDocument:
    """Pages in order; typographic ligatures become letters, as a reader would type them.

    Words broken at the end of a line are whole. A page that cannot be read is left out and counted in the metadata as
    `unreadable_pages`, one that shows something but has no text as `pages_without_text`. The values of form fields
    follow the pages.
    """
    reader = PdfReader(io.BytesIO(source.data), strict=False)
    _unlock(reader)
    pages = len(reader.pages)
    sections: list[Section] = []
    failures: dict[int, Exception] = {}
    blank: list[int] = []
    for number in range(pages):
        try:
            page = reader.pages[number]
            text = _page_text(page)
            if not text.strip() and _shows_something(page):
                blank.append(number + 1)
        except (MemoryError, LimitReachedError):
            raise
        except Exception as error:  # noqa: BLE001  (pypdf raises whatever a malformed page leads to)
            failures[number + 1] = error
        else:
            sections.append(Section(text=text, page=number + 1))
    if failures and not any(section.text.strip() for section in sections):
        raise next(iter(failures.values()))
    if not any(section.text.strip() for section in sections):
        detail = f"The PDF has no text layer ({pages} pages, probably scanned): run OCR on it first."
        raise Problem(ProblemType.EMPTY_DOCUMENT, detail)
    if fields := _fields(reader):
        sections.append(Section(text=fields))
    metadata = _metadata(reader) | {"pages": pages}
    if failures:
        metadata["unreadable_pages"] = len(failures)
    if blank:
        metadata["pages_without_text"] = len(blank)
    return ParsedDocument(
        media_type=source.media_type,
        sections=tuple(_with_whole_words(sections)),
        metadata=metadata,
        warnings=tuple(_warnings(reader, pages, blank, list(failures))),
    )


def _warnings(reader: PdfReader, pages: int, blank: list[int], unreadable: list[int]) -> Iterator[DocumentWarning]:
    if blank:
        detail = (
            f"{len(blank)} of {pages} pages have no text ({_ranges(blank)}), probably scanned: run OCR on them first."
        )
        yield DocumentWarning(kind=WarningKind.PAGES_WITHOUT_TEXT, detail=detail)
    if unreadable:
        detail = f"{len(unreadable)} of {pages} pages are damaged and not read ({_ranges(unreadable)})."
        yield DocumentWarning(kind=WarningKind.UNREADABLE_PART, detail=detail)
    try:
        attached = len(reader.attachments)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (as for pages)
        attached = 0
    if attached:
        detail = f"{attached} attached files are not read." if attached > 1 else "1 attached file is not read."
        yield DocumentWarning(kind=WarningKind.SKIPPED_PART, detail=detail)


def _ranges(pages: list[int]) -> str:
    """Pages in order as `2-4, 7`."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and runs[-1][-1] == page - 1:
            runs[-1] = [runs[-1][0], page]
        else:
            runs.append([page])
    shown = ", ".join("-".join(map(str, run)) for run in runs[:_SHOWN_RANGES])
    return f"{'page' if len(pages) == 1 else 'pages'} {shown}{', …' if len(runs) > _SHOWN_RANGES else ''}"


def _shows_something(page: PageObject) -> bool:
    """Whether a page without text has a picture, or much drawing: a blank page has neither."""
    resources = page.get("/Resources")
    resources = resources.get_object() if resources is not None else {}
    if resources.get("/XObject"):
        return True
    contents = page.get_contents()
    return contents is not None and len(contents.get_data()) > _BLANK_PAGE_BYTES


def _with_whole_words(sections: list[Section]) -> Iterator[Section]:
    """The sections with words whole that a hyphen breaks at the end of a line.

    The hyphen goes unless the word is elsewhere in the document with it, or begins as words with a hyphen do.
    """
    compounds = {word.lower() for section in sections for word in _COMPOUND.findall(section.text)}

    def joined(broken: re.Match[str]) -> str:
        start, end = broken[1], broken[2]
        whole = f"{start}-{end}".lower()
        keeps = not end[0].islower() or not start[-1].islower() or whole in compounds or start.lower() in _PREFIXES
        return f"{start}-{end}" if keeps else f"{start}{end}"

    for section in sections:
        yield replace(section, text=_BROKEN.sub(joined, section.text))


def _unlock(reader: PdfReader) -> None:
    """Many PDFs are encrypted only to restrict printing: their user password is empty."""
    if not reader.is_encrypted:
        return
    try:
        unlocked = bool(reader.decrypt(""))
    except DependencyError as error:
        raise Problem(
            ProblemType.ENCRYPTED_DOCUMENT, "The PDF is encrypted with AES: save it without encryption."
        ) from error
    if not unlocked:
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, _LOCKED)


def _page_text(page: PageObject) -> str:
    text: str = page.extract_text()
    return _SOFT_HYPHEN.sub("", text.translate(_LIGATURES))


def _fields(reader: PdfReader) -> str:
    """What somebody has filled into a form: pages show it, but their text layer does not have it."""
    try:
        fields = reader.get_form_text_fields()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (as for pages)
        return ""
    return "\n".join(f"{name}: {value}" for name, value in fields.items() if isinstance(value, str) and value.strip())


def _metadata(reader: PdfReader) -> dict[str, str | int]:
    try:
        about = reader.metadata
        found = {"title": about.title, "author": about.author} if about else {}
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (damaged metadata is no reason to refuse the text)
        return {}
    return {key: value.strip() for key, value in found.items() if isinstance(value, str) and value.strip()}
