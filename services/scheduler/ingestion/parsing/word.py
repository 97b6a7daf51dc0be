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
from services.scheduler.ingestion.parsing.columns import WIDEST
from services.scheduler.ingestion.parsing.document import ParsedDocument, Source
from services.scheduler.ingestion.parsing.drawings import RELATION, drawing_text
from services.scheduler.ingestion.parsing.equations import MATH, linear_math
from services.scheduler.ingestion.parsing.missing import Missing
from services.scheduler.ingestion.parsing.outline import Outline
from services.scheduler.ingestion.parsing.rows import table_text
from services.scheduler.ingestion.parsing.symbols import symbol

__all__ = ["parse"]

_P, _TBL, _TR, _TC = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_TCPR, _SYM = qn("w:tcPr"), qn("w:sym")
_TEXTS = frozenset({qn("w:t"), qn("m:t")})
_CHARACTERS = {
    qn("w:tab"): "\t",
    qn("w:ptab"): "\t",
    qn("w:br"): "\n",
    qn("w:cr"): "\n",
    qn("w:noBreakHyphen"): "-",
    qn("w:softHyphen"): "",
}
_PICTURE = qn("pic:pic")
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_SKIPPED = frozenset({_FALLBACK, qn("w:del"), qn("w:moveFrom"), qn("w:pPr"), qn("w:rPr")})
_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)


def parse(source: Source) -> ParsedDocument:
    """Text as it stands after all tracked changes, with tables, charts, diagrams, equations and notes.

    Headers, footers, comments and pictures are left out.
    """
    check_office(source.data)
    document = docx.Document(io.BytesIO(source.data))
    levels = _levels(document)
    outline, missing = Outline(), Missing()
    for block in _blocks(document.element.body):
        if block.tag == _TBL:
            outline.add(_table(block, missing))
        else:
            _paragraph(block, levels, outline, missing)
        for drawing in _drawings(block, document, missing):
            outline.add(drawing)
    for note in _notes(document, missing):
        outline.add(note)
    about = document.core_properties
    found = {"title": about.title or outline.title, "author": about.author}
    metadata = {key: value for key, value in found.items() if value}
    return ParsedDocument(
        media_type=source.media_type, sections=outline.sections(), metadata=metadata, warnings=missing.warnings()
    )


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


def _text(paragraph: Any, missing: Missing) -> str:
    """The text of a paragraph without that of paragraphs within it (text boxes)."""
    parts: list[str] = []
    waiting = list(reversed(paragraph))
    while waiting:
        element = waiting.pop()
        tag = element.tag
        if tag in _TEXTS:
            parts.append(element.text or "")
        elif tag in _CHARACTERS:
            parts.append(_CHARACTERS[tag])
        elif tag == _SYM:
            parts.append(_symbol(element, missing))
        elif tag == MATH:
            parts.append(linear_math(element))
        elif tag != _P and tag not in _SKIPPED:
            waiting.extend(reversed(element))
    return "".join(parts)


def _symbol(element: Any, missing: Missing) -> str:
    code = element.get(qn("w:char"), "")
    try:
        character = symbol(element.get(qn("w:font"), ""), int(code, 16))
    except ValueError:
        character = "\N{REPLACEMENT CHARACTER}"
    missing.symbols += character == "\N{REPLACEMENT CHARACTER}"
    return character


def _paragraph(element: Any, levels: dict[str, int], outline: Outline, missing: Missing) -> None:
    text = _text(element, missing)
    level = levels.get(element.style)
    if level is not None:
        outline.heading(level, text)
    else:
        is_item = element.pPr is not None and element.pPr.numPr is not None
        outline.add(f"- {text}" if is_item and text.strip() else text)


def _table(table: Any, missing: Missing) -> str:
    """Rows with " | " between cells; what is nested in a cell is flattened into it."""
    rows: list[list[str]] = []
    header_rows = 0
    for row in _nearest(table, _TR, _TBL):
        if row.tag in _SKIPPED or row.find(f"{qn('w:trPr')}/{qn('w:del')}") is not None:
            continue
        header_rows += header_rows == len(rows) and row.find(f"{qn('w:trPr')}/{qn('w:tblHeader')}") is not None
        rows.append(_cells(row, rows[-1] if rows else [], missing))
    return table_text(rows, header_rows)


def _cells(row: Any, above: list[str], missing: Missing) -> list[str]:
    """The texts of a row; that of a merged cell in each row and, in the first row, in each column that it covers."""
    texts: list[str] = []
    for cell in _nearest(row, _TC, _TR):
        text = " ".join(" ".join(_text(one, missing) for one in cell.iter(_P)).split())
        merge = cell.find(f"{_TCPR}/{qn('w:vMerge')}")
        if not text and merge is not None and merge.get(qn("w:val"), "continue") == "continue":
            text = above[len(texts)] if len(texts) < len(above) else ""
        span = cell.find(f"{_TCPR}/{qn('w:gridSpan')}")
        value = "1" if span is None else span.get(qn("w:val"), "1")
        across = min(int(value), WIDEST) if value.isdecimal() and len(value) < 6 else 1
        texts += [text, *([text if not above else ""] * (across - 1))]
    return texts


def _nearest(parent: Any, tag: str, parent_tag: str) -> Iterator[Any]:
    """Descendants of this tag that belong to `parent` and not to a table nested in it."""
    return (child for child in parent.iter(tag) if next(child.iterancestors(parent_tag)) is parent)


def _notes(document: Document, missing: Missing) -> Iterator[str]:
    """Footnotes and endnotes, one paragraph each. Comments are counted."""
    for relation in document.part.rels.values():
        if relation.is_external:
            continue
        if relation.reltype.endswith(("/footnotes", "/endnotes")):
            for note in parse_xml(relation.target_part.blob):
                yield "\n".join(_text(one, missing) for one in note.iter(_P))
        elif relation.reltype.endswith("/comments"):
            missing.comments += len(parse_xml(relation.target_part.blob))


def _drawings(paragraph: Any, document: Document, missing: Missing) -> Iterator[str]:
    """The charts and diagrams that stand in a paragraph; pictures are counted."""
    missing.pictures += sum(1 for _ in paragraph.iter(_PICTURE))
    for tag, attribute in RELATION.items():
        for reference in paragraph.iter(tag):
            try:
                yield drawing_text(document.part.rels[reference.get(attribute)].target_part.blob)
            except (KeyError, ValueError):
                missing.drawings += 1
