"""PowerPoint (.pptx): one section a slide, its title as the heading."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import pptx

from services.scheduler.ingestion.parsing.archives import check_office
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source

__all__ = ["parse"]


def parse(source: Source) -> ParsedDocument:
    """Text of shapes, groups and tables in their order on the slide, then the speaker's notes."""
    check_office(source.data)
    presentation = pptx.Presentation(io.BytesIO(source.data))
    sections = tuple(
        section for number, slide in enumerate(presentation.slides, start=1) for section in _sections(slide, number)
    )
    about = presentation.core_properties
    found = {"title": about.title, "author": about.author}
    metadata: dict[str, str | int] = {key: value for key, value in found.items() if value}
    metadata["pages"] = len(presentation.slides)
    return ParsedDocument(media_type=source.media_type, sections=sections, metadata=metadata)


def _sections(slide: Any, number: int) -> Iterator[Section]:
    title_shape = slide.shapes.title
    title = " ".join(title_shape.text_frame.text.split()) if title_shape is not None else ""
    shapes = (shape for shape in _leaves(slide.shapes) if not _same(shape, title_shape))
    texts = [text for shape in shapes if (text := _text(shape)).strip()]
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


def _text(shape: Any) -> str:
    if shape.has_text_frame:
        return str(shape.text_frame.text)
    if getattr(shape, "has_table", False):
        rows = ([" ".join(cell.text.split()) for cell in row.cells] for row in shape.table.rows)
        return "\n".join(" | ".join(cells) for cells in rows)
    return ""
