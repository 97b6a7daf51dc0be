"""Jupyter notebooks (.ipynb): cells in order, Markdown under its headings, code and printed results as text."""

from __future__ import annotations

import json
from typing import Any

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Source
from services.scheduler.ingestion.parsing.markdown import outline_of
from services.scheduler.ingestion.parsing.missing import Missing
from services.scheduler.ingestion.parsing.outline import Outline
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse"]

_LONGEST_OUTPUT = 20_000
"""Characters of the printed results of a cell that are read."""


def parse(source: Source) -> ParsedDocument:
    """Sources of all cells (nbformat 3 and 4) and their results as plain text. Pictures are not read."""
    notebook = json.loads(decode(source.data))
    if not isinstance(notebook, dict):
        raise Problem(ProblemType.BROKEN_DOCUMENT, "It is not a notebook.")
    cells = notebook.get("cells")
    if cells is None:
        cells = [cell for sheet in _list(notebook.get("worksheets")) for cell in _list(_dict(sheet).get("cells"))]
    metadata = _dict(notebook.get("metadata"))
    language = _text(_dict(metadata.get("language_info")).get("name"))
    outline, missing = Outline(), Missing()
    for cell in map(_dict, _list(cells)):
        text = _text(cell.get("source", cell.get("input")))
        if cell.get("cell_type") == "code":
            outline.add(text)
            outline.add(_results(cell, missing))
        elif cell.get("cell_type") == "heading":
            outline.heading(int(cell.get("level") or 1), text)
        else:
            outline_of(text.split("\n"), outline)
            missing.pictures += len(_dict(cell.get("attachments")))
    title = _text(metadata.get("title")) or outline.title
    found = {"title": title, "language": language}
    return ParsedDocument(
        media_type=source.media_type,
        sections=outline.sections(),
        metadata={key: value for key, value in found.items() if value},
        warnings=missing.warnings(),
    )


def _results(cell: dict[str, Any], missing: Missing) -> str:
    texts = []
    for output in map(_dict, _list(cell.get("outputs"))):
        data = _dict(output.get("data", output))
        if any(kind.startswith("image/") or kind in ("png", "jpeg", "svg") for kind in data):
            missing.pictures += 1  # its plain text only names the class of the figure
        else:
            texts.append(_text(output.get("text", data.get("text/plain", data.get("text/markdown")))))
    return "\n".join(filter(None, texts))[:_LONGEST_OUTPUT]


def _text(value: Any) -> str:
    """A text as nbformat has it: a string, or a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
