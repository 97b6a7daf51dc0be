"""Markdown: kept as it is written, cut at its headings."""

from __future__ import annotations

import re

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Source
from services.scheduler.ingestion.parsing.outline import Outline
from services.scheduler.ingestion.parsing.rows import is_wide, table_text

__all__ = ["outline_of", "parse"]

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"""^title:[ \t]*(["']?)(.+?)\1[ \t]*$""", re.MULTILINE)
_KEY = re.compile(r"""["']?[A-Za-z_][\w.-]*["']?[ \t]*:(?:[ \t]|\Z)""")
_ATX = re.compile(r" {0,3}(#{1,6})(?![^ \t])")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*\Z")
_TABLE_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|[\s:|-]*)?\Z")
_BAR = re.compile(r"(?<!\\)\|")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NOT_A_TITLE = re.compile(r"\s*\Z|\s{4}|\s*(?:[-*+>|]|\d+[.)])\s")


def parse(source: Source) -> ParsedDocument:
    """Sections at ATX and setext headings (CommonMark 4.2, 4.3) outside of fenced code.

    YAML front matter is left out; its `title` becomes the title. Tables whose rows do not fit into a chunk with their
    header become records.
    """
    text = decode(source.data).replace("\r\n", "\n").lstrip("\ufeff")
    title = ""
    if (front := _FRONT_MATTER.match(text)) and _is_yaml(front[1]):
        text = text[front.end() :]
        found = _FRONT_TITLE.search(front[1])
        title = found[2] if found else ""
    outline = Outline()
    outline_of(text.split("\n"), outline)
    sections = outline.sections()
    title = title or outline.title
    return ParsedDocument(media_type=source.media_type, sections=sections, metadata={"title": title} if title else {})


def outline_of(lines: list[str], outline: Outline) -> None:
    """Add the lines of a Markdown text to an outline."""
    body: list[str] = []
    fence = ""

    def heading(level: int, title: str) -> None:
        _close_table(body)
        outline.add("\n".join(body))
        body.clear()
        outline.heading(level, title)

    for line in lines:
        if not fence and "|" not in line and body and "|" in body[-1]:
            _close_table(body)
        if mark := _FENCE.match(line):
            fence = _next_fence(fence, mark[1], line)
        elif not fence and (atx := _ATX.match(line)):
            heading(len(atx[1]), _without_closing(line[atx.end() :].strip()))
            continue
        elif not fence and (rule := _SETEXT.match(line)) and _is_title(body):
            heading(1 if rule[1].startswith("=") else 2, body.pop())
            continue
        body.append(line)
    _close_table(body)
    outline.add("\n".join(body))


def _close_table(body: list[str]) -> None:
    """Replace a table at the end of `body` by records where its rows are too wide to be cut under their header."""
    start = len(body)
    while start and "|" in body[start - 1]:
        start -= 1
    lines = body[start:]
    if len(lines) < 3 or not _TABLE_RULE.match(lines[1]):
        return
    rows = [_cells(line) for line in (lines[0], *lines[2:])]
    if is_wide(rows):
        body[start:] = ["", *table_text(rows, header_rows=1).split("\n"), ""]


def _cells(line: str) -> list[str]:
    line = line.strip().removeprefix("|")
    return _BAR.split(line.removesuffix("|"))


def _is_yaml(text: str) -> bool:
    """Whether what stands between two rules is a mapping, and not the text of a page."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    mapping = all(_KEY.match(line) or line[0] in " \t-]}" for line in lines)
    return mapping and bool(lines) and _KEY.match(lines[0]) is not None


def _without_closing(title: str) -> str:
    """The title without the closing sequence of "#" that CommonMark allows."""
    bare = title.rstrip("#")
    return bare.rstrip() if not bare or bare[-1] in " \t" else title


def _next_fence(fence: str, mark: str, line: str) -> str:
    """The fence that is open after a line that carries the marker `mark`; "" if none."""
    if not fence:
        return mark
    closes = mark[0] == fence[0] and len(mark) >= len(fence) and line.strip() == mark
    return "" if closes else fence


def _is_title(body: list[str]) -> bool:
    """Whether the last line, alone in its paragraph, can be the title above a setext underline."""
    alone = bool(body) and (len(body) == 1 or not body[-2].strip())
    return alone and not _NOT_A_TITLE.match(body[-1])
