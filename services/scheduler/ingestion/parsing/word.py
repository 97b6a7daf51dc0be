"""Word (.docx): paragraphs, tables, text boxes and footnotes, under the headings."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import docx
from docx.document import Document
from docx.oxml import parse_xml
from docx.oxml.ns import qn

from services.scheduler.ingestion.parsing.archives import check_office
from services.scheduler.ingestion.parsing.document import ParsedDocument, Source
from services.scheduler.ingestion.parsing.outline import Outline

__all__ = ["parse"]

_P, _TBL, _TR, _TC = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_TEXT, _TAB, _BREAKS = qn("w:t"), qn("w:tab"), (qn("w:br"), qn("w:cr"))
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_SKIPPED = frozenset({_FALLBACK, qn("w:del"), qn("w:pPr"), qn("w:rPr")})
_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)


def parse(source: Source) -> ParsedDocument:
    """Text as it stands after all tracked changes; headers, footers and comments are left out."""
    check_office(source.data)
    document = docx.Document(io.BytesIO(source.data))
    levels = _levels(document)
    outline = Outline()
    for block in _blocks(document.element.body):
        if block.tag == _TBL:
            outline.add("\n".join(_rows(block)))
        else:
            _paragraph(block, levels, outline)
    for note in _notes(document):
        outline.add(note)
    about = document.core_properties
    found = {"title": about.title or outline.title, "author": about.author}
    metadata = {key: value for key, value in found.items() if value}
    return ParsedDocument(media_type=source.media_type, sections=outline.sections(), metadata=metadata)


def _levels(document: Document) -> dict[str, int]:
    """Heading levels by style id. Ids are translated with Word's language; the built-in names are not."""
    levels = {}
    for style in document.styles:
        name = style.name or ""
        if found := _HEADING.fullmatch(name):
            levels[style.style_id] = int(found[1])
        elif name == "Title":
            levels[style.style_id] = 0
    return levels


def _blocks(parent: Any) -> Iterator[Any]:
    """Paragraphs and outermost tables in reading order, also within content controls and text boxes."""
    waiting = list(reversed(parent))
    while waiting:
        element = waiting.pop()
        if element.tag in (_P, _TBL):
            yield element
        if element.tag != _TBL and element.tag not in _SKIPPED:
            waiting.extend(reversed(element))


def _text(paragraph: Any) -> str:
    """The text of a paragraph without that of paragraphs within it (text boxes)."""
    parts: list[str] = []
    waiting = list(reversed(paragraph))
    while waiting:
        element = waiting.pop()
        if element.tag == _TEXT:
            parts.append(element.text or "")
        elif element.tag == _TAB:
            parts.append("\t")
        elif element.tag in _BREAKS:
            parts.append("\n")
        elif element.tag != _P and element.tag not in _SKIPPED:
            waiting.extend(reversed(element))
    return "".join(parts)


def _paragraph(element: Any, levels: dict[str, int], outline: Outline) -> None:
    text = _text(element)
    level = levels.get(element.style)
    if level is not None:
        outline.heading(level, text)
    else:
        is_item = element.pPr is not None and element.pPr.numPr is not None
        outline.add(f"- {text}" if is_item and text.strip() else text)


def _rows(table: Any) -> Iterator[str]:
    """Rows with " | " between cells; what is nested in a cell is flattened into it."""
    for row in _nearest(table, _TR, _TBL):
        texts = (" ".join(map(_text, cell.iter(_P))) for cell in _nearest(row, _TC, _TR))
        yield " | ".join(" ".join(text.split()) for text in texts)


def _nearest(parent: Any, tag: str, parent_tag: str) -> Iterator[Any]:
    """Descendants of this tag that belong to `parent` and not to a table nested in it."""
    return (child for child in parent.iter(tag) if next(child.iterancestors(parent_tag)) is parent)


def _notes(document: Document) -> Iterator[str]:
    """Footnotes and endnotes, one paragraph each."""
    for relation in document.part.rels.values():
        if relation.reltype.endswith(("/footnotes", "/endnotes")) and not relation.is_external:
            for note in parse_xml(relation.target_part.blob):
                yield "\n".join(map(_text, note.iter(_P)))
