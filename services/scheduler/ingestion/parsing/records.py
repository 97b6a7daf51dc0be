"""JSON and JSON Lines: a section per object, flattened to "path: value" lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.rows import keyed
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["parse_json", "parse_jsonl"]

_BLANK_LINE = object()
_GAP = re.compile(r"[\s,]*")


def parse_json(source: Source) -> ParsedDocument:
    """A list at the top gives a section per element; anything else is one section. So do several values in a row, as
    exports write them: one a line, or one after the other."""
    text = decode(source.data).lstrip("\ufeff")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        return _document(source, _stream(text))
    return _document(source, value if isinstance(value, list) else [value])


def parse_jsonl(source: Source) -> ParsedDocument:
    """A section per line. A line that is no JSON breaks the document: its number is in the problem.

    A last line that is cut off is a warning.
    """
    warnings: list[DocumentWarning] = []
    return _document(source, _lines(decode(source.data), warnings), warnings)


def _stream(text: str) -> Iterator[Any]:
    """JSON values with white space between them."""
    decoder = json.JSONDecoder()
    place = 0
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        yield value
        place = _GAP.match(text, place).end()  # type: ignore[union-attr]  # it matches everywhere


def flatten(value: Any) -> str:
    """Lines "path: value" with paths as in `a.b[2].c`; a list of scalars is one line.

    Objects within lists are set apart by blank lines. null and empty containers are left out. Nesting of any
    depth is fine. What is longer than a chunk is several paragraphs that begin with the first short value, its key.
    """
    blocks: list[list[tuple[str, str]]] = [[]]
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
            blocks.append([])
        else:
            text = _scalar(item)
            if text:
                blocks[-1].append((path, text))
    return "\n\n".join(keyed(block) for block in blocks if block)


def _scalar(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(filter(None, map(_scalar, item)))
    if isinstance(item, bool):
        return "true" if item else "false"
    return "" if item is None else str(item).strip()


def _lines(text: str, warnings: list[DocumentWarning]) -> Iterator[Any]:
    lines = text.split("\n") if "\n" in text else text.splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                if number == len(lines) > 1:  # without a line end
                    detail = f"Line {number}, the last one, is cut off and not read."
                    warnings.append(DocumentWarning(kind=WarningKind.CUT_OFF, detail=detail))
                    return
                detail = f"Line {number} is not valid JSON: {error}"
                raise Problem(ProblemType.BROKEN_DOCUMENT, detail) from error


def _document(source: Source, values: Iterable[Any], warnings: Sequence[DocumentWarning] = ()) -> ParsedDocument:
    sections = tuple(Section(text=flatten(value)) for value in values)
    return ParsedDocument(media_type=source.media_type, sections=sections, warnings=tuple(warnings))
