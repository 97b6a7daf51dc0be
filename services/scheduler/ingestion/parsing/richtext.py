"""Rich text (.rtf): the text without its formatting."""

from __future__ import annotations

import re

from striprtf.striprtf import rtf_to_text

from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.missing import Missing
from services.scheduler.ingestion.parsing.rows import table_text
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse"]

_PICTURE = re.compile(r"\\pict\b")
_BINARY = re.compile(r"[0-9a-fA-F\s]{512,}+")
_INFO = re.compile(r"\{\\info\b.{0,4000}?\{\\title ([^{}\\]{1,500})\}", re.DOTALL)


def parse(source: Source) -> ParsedDocument:
    """Paragraphs and rows of tables. Pictures and embedded objects are not read."""
    text = source.data.decode("latin-1")
    if not text.lstrip().startswith("{\\rtf"):
        raise Problem(ProblemType.BROKEN_DOCUMENT, "It is not rich text.")
    missing = Missing(pictures=len(_PICTURE.findall(text)))
    plain = rtf_to_text(_BINARY.sub("", text), errors="replace")
    title = _INFO.search(text)
    return ParsedDocument(
        media_type=source.media_type,
        sections=(Section(text=_with_tables(plain)),),
        metadata={"title": title[1]} if title else {},
        warnings=missing.warnings(),
    )


def _with_tables(text: str) -> str:
    """The text with rows, which end in a bar, as tables. Each line is a paragraph."""
    blocks: list[str] = []
    rows: list[list[str]] = []
    for line in [*text.split("\n"), ""]:
        if line.rstrip().endswith("|"):
            rows.append(line.rstrip()[:-1].split("|"))
            continue
        if rows:
            blocks.append(table_text(rows))
            rows = []
        blocks.append(line)
    return "\n\n".join(filter(str.strip, blocks))
