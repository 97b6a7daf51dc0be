"""Plain text and source code: one section, as it is."""

from __future__ import annotations

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source

__all__ = ["parse"]


def parse(source: Source) -> ParsedDocument:
    metadata = {"language": source.language} if source.language else {}
    sections = (Section(text=decode(source.data)),)
    return ParsedDocument(media_type=source.media_type, sections=sections, metadata=metadata)
