"""JSON and JSON Lines: a section per object, flattened to "path: value" lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse_json", "parse_jsonl"]

_BLANK_LINE = object()


def parse_json(source: Source) -> ParsedDocument:
    """A list at the top gives a section per element; anything else is one section."""
    value = json.loads(decode(source.data))
    values = value if isinstance(value, list) else [value]
    return _document(source, map(flatten, values))


def parse_jsonl(source: Source) -> ParsedDocument:
    """A section per line. A line that is no JSON breaks the document: its number is in the problem."""
    return _document(source, map(flatten, _lines(decode(source.data))))


def flatten(value: Any) -> str:
    """Lines "path: value" with paths as in `a.b[2].c`; a list of scalars is one line.

    Objects within lists are set apart by blank lines. null and empty containers are left out. Nesting of any
    depth is fine.
    """
    lines: list[str] = []
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, dict):
            children = [(f"{path}.{key}" if path else str(key), child) for key, child in item.items()]
            waiting.extend(reversed(children))
        elif isinstance(item, list) and any(isinstance(child, dict | list) for child in item):
            for index in range(len(item) - 1, -1, -1):
                waiting.append((f"{path}[{index}]", item[index]))
                waiting.append(("", _BLANK_LINE))
        elif item is _BLANK_LINE:
            lines.append("")
        else:
            text = _scalar(item)
            if text:
                lines.append(f"{path}: {text}" if path else text)
    return "\n".join(lines)


def _scalar(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(filter(None, map(_scalar, item)))
    if isinstance(item, bool):
        return "true" if item else "false"
    return "" if item is None else str(item).strip()


def _lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines() if "\n" not in text else text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                detail = f"Line {number} is not valid JSON: {error}"
                raise Problem(ProblemType.BROKEN_DOCUMENT, detail) from error


def _document(source: Source, texts: Iterator[str]) -> ParsedDocument:
    sections = tuple(Section(text=text) for text in texts)
    return ParsedDocument(media_type=source.media_type, sections=sections)
