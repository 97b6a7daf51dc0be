"""PDF: the text layer, one section a page."""

from __future__ import annotations

import io
import re

from pypdf import PageObject, PdfReader
from pypdf.errors import DependencyError, LimitReachedError

from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse"]

_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_SOFT_HYPHEN = re.compile("\u00ad\n?")
_LOCKED = "The PDF needs a password: remove it and upload the file again."


def parse(source: Source) -> ParsedDocument:
    """Pages in order; typographic ligatures become letters, as a reader would type them.

    A page that cannot be read is left out and counted in the metadata as `unreadable_pages`.
    """
    reader = PdfReader(io.BytesIO(source.data), strict=False)
    _unlock(reader)
    pages = len(reader.pages)
    sections: list[Section] = []
    failures: list[Exception] = []
    for number in range(pages):
        try:
            text = _page_text(reader.pages[number])
        except (MemoryError, LimitReachedError):
            raise
        except Exception as error:  # noqa: BLE001  (pypdf raises whatever a malformed page leads to)
            failures.append(error)
        else:
            sections.append(Section(text=text, page=number + 1))
    if failures and not any(section.text.strip() for section in sections):
        raise failures[0]
    if not any(section.text.strip() for section in sections):
        detail = f"The PDF has no text layer ({pages} pages, probably scanned): run OCR on it first."
        raise Problem(ProblemType.EMPTY_DOCUMENT, detail)
    metadata = _metadata(reader) | {"pages": pages}
    if failures:
        metadata["unreadable_pages"] = len(failures)
    return ParsedDocument(media_type=source.media_type, sections=tuple(sections), metadata=metadata)


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


def _metadata(reader: PdfReader) -> dict[str, str | int]:
    try:
        about = reader.metadata
        found = {"title": about.title, "author": about.author} if about else {}
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (damaged metadata is no reason to refuse the text)
        return {}
    return {key: value.strip() for key, value in found.items() if isinstance(value, str) and value.strip()}
