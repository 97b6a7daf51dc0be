"""Markdown: kept as it is written, cut at its headings."""

from __future__ import annotations

import re

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Source
from services.scheduler.ingestion.parsing.outline import Outline

__all__ = ["parse"]

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"""^title:[ \t]*(["']?)(.+?)\1[ \t]*$""", re.MULTILINE)
_ATX = re.compile(r" {0,3}(#{1,6})(?![^ \t])")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NOT_A_TITLE = re.compile(r"\s*\Z|\s{4}|\s*(?:[-*+>|]|\d+[.)])\s")


def parse(source: Source) -> ParsedDocument:
    """Sections at ATX and setext headings (CommonMark 4.2, 4.3) outside of fenced code.

    YAML front matter is left out; its `title` becomes the title.
    """
    text = decode(source.data).replace("\r\n", "\n").lstrip("\ufeff")
    title = ""
    if front := _FRONT_MATTER.match(text):
        text = text[front.end() :]
        found = _FRONT_TITLE.search(front[1])
        title = found[2] if found else ""
    outline = _outline(text.split("\n"))
    sections = outline.sections()
    title = title or outline.title
    return ParsedDocument(media_type=source.media_type, sections=sections, metadata={"title": title} if title else {})


def _outline(lines: list[str]) -> Outline:
    outline = Outline()
    body: list[str] = []
    fence = ""

    def heading(level: int, title: str) -> None:
        outline.add("\n".join(body))
        body.clear()
        outline.heading(level, title)

    for line in lines:
        if mark := _FENCE.match(line):
            fence = _next_fence(fence, mark[1], line)
        elif not fence and (atx := _ATX.match(line)):
            heading(len(atx[1]), _without_closing(line[atx.end() :].strip()))
            continue
        elif not fence and (rule := _SETEXT.match(line)) and _is_title(body):
            heading(1 if rule[1].startswith("=") else 2, body.pop())
            continue
        body.append(line)
    outline.add("\n".join(body))
    return outline


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
