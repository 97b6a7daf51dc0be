"""PowerPoint (.pptx): one section a slide, its title as the heading."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import pptx
from pptx.oxml.ns import qn

from services.scheduler.ingestion.parsing.archives import check_office
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.drawings import RELATION, drawing_text
from services.scheduler.ingestion.parsing.missing import Missing
from services.scheduler.ingestion.parsing.rows import table_text

__all__ = ["parse"]

_PICTURE = qn("p:pic")


def parse(source: Source) -> ParsedDocument:
    """Text of shapes, groups, tables, charts and diagrams in their order on the slide, then the speaker's notes.

    Pictures and comments are not read.
    """
    check_office(source.data)
    presentation = pptx.Presentation(io.BytesIO(source.data))
    missing = Missing()
    sections = tuple(
        section
        for number, slide in enumerate(presentation.slides, start=1)
        for section in _sections(slide, number, missing)
    )
    about = presentation.core_properties
    found = {"title": about.title, "author": about.author}
    metadata: dict[str, str | int] = {key: value for key, value in found.items() if value}
    metadata["pages"] = len(presentation.slides)
    return ParsedDocument(
        media_type=source.media_type, sections=sections, metadata=metadata, warnings=missing.warnings()
    )


def _sections(slide: Any, number: int, missing: Missing) -> Iterator[Section]:
    title_shape = slide.shapes.title
    title = " ".join(title_shape.text_frame.text.split()) if title_shape is not None else ""
    shapes = (shape for shape in _leaves(slide.shapes) if not _same(shape, title_shape))
    texts = [text for shape in shapes if (text := _text(shape, missing)).strip()]
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        texts.append(slide.notes_slide.notes_text_frame.text)
    body = "\n\n".join(text for text in texts if text.strip())
    if body:
        yield Section(text=body, heading=(title,) if title else (), page=number)
    elif title:
        yield Section(text=title, page=number)


def _same(shape: Any, other: Any) -> bool:
    return other is not None and shape.shape_id == other.shape_id


def _leaves(shapes: Iterable[Any]) -> Iterator[Any]:
    waiting = list(shapes)[::-1]
    while waiting:
        shape = waiting.pop()
        if hasattr(shape, "shapes"):
            waiting.extend(list(shape.shapes)[::-1])
        else:
            yield shape


def _text(shape: Any, missing: Missing) -> str:
    if shape.has_text_frame:
        return str(shape.text_frame.text)
    if getattr(shape, "has_table", False):
        return _table(shape.table)
    if shape.element.tag == _PICTURE:
        missing.pictures += 1
    return "\n\n".join(_drawings(shape, missing))


def _table(table: Any) -> str:
    """With the text of a merged cell in each row that it covers; a spanned cell itself is empty."""
    rows = [list(row.cells) for row in table.rows]
    texts = [[cell.text for cell in row] for row in rows]
    for top, row in enumerate(rows):
        for left, cell in enumerate(row):
            if cell.is_merge_origin:
                for below in range(top + 1, min(top + cell.span_height, len(rows))):
                    texts[below][left] = texts[top][left]
    return table_text(texts, header_rows=int(bool(table.first_row) and len(texts) > 1))


def _drawings(shape: Any, missing: Missing) -> Iterator[str]:
    """The charts and diagrams of a shape."""
    for tag, attribute in RELATION.items():
        for reference in shape.element.iter(tag):
            try:
                yield drawing_text(shape.part.related_part(reference.get(attribute)).blob)
            except (KeyError, ValueError):
                missing.drawings += 1
