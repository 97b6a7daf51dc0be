"""OpenDocument text and presentations (.odt, .odp): paragraphs, lists, tables and notes, under the headings
(OASIS ODF 1.3, part 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree

from services.scheduler.ingestion.parsing.archives import reject_encrypted_odf
from services.scheduler.ingestion.parsing.columns import WIDEST
from services.scheduler.ingestion.parsing.document import ParsedDocument, Source
from services.scheduler.ingestion.parsing.missing import Missing
from services.scheduler.ingestion.parsing.outline import Outline
from services.scheduler.ingestion.parsing.rows import fill_spans, table_text
from services.scheduler.ingestion.parsing.zip import open_zip, read_member
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse"]

_NS = "{urn:oasis:names:tc:opendocument:xmlns:"
_TEXT, _TABLE, _OFFICE, _DRAW = (f"{_NS}{name}:1.0}}" for name in ("text", "table", "office", "drawing"))
_DC = "{http://purl.org/dc/elements/1.1/}"
_H, _P, _LIST_ITEM, _TBL = f"{_TEXT}h", f"{_TEXT}p", f"{_TEXT}list-item", f"{_TABLE}table"
_SKIPPED = frozenset(
    {
        f"{_TEXT}tracked-changes",
        f"{_OFFICE}annotation",
        f"{_TEXT}sequence-decls",
        f"{_OFFICE}forms",
        f"{_TEXT}ruby-text",
    }
)
_CHARACTERS = {f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}
_MOST_BLANKS = 100


def parse(source: Source) -> ParsedDocument:
    """The text as it stands after all tracked changes. Comments and pictures are not read."""
    reject_encrypted_odf(source.data)
    with open_zip(source.data) as package:
        members = {member.filename: member for member in package.infolist()}
        if "content.xml" not in members:
            raise Problem(ProblemType.BROKEN_DOCUMENT, "It has no content, so it is not an OpenDocument file.")
        root = _tree(read_member(package, members["content.xml"]))
        about = _about(read_member(package, members["meta.xml"])) if "meta.xml" in members else {}
    outline, missing = Outline(), Missing()
    missing.pictures = sum(1 for _ in root.iter(f"{_DRAW}image"))
    missing.comments = sum(1 for _ in root.iter(f"{_OFFICE}annotation"))
    body = root.find(f"{_OFFICE}body")
    for block in _blocks(body if body is not None else root):
        _add(block, outline)
    about["title"] = about.get("title") or outline.title
    return ParsedDocument(
        media_type=source.media_type,
        sections=outline.sections(),
        metadata={key: value for key, value in about.items() if value},
        warnings=missing.warnings(),
    )


def _tree(data: bytes) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    return etree.fromstring(data, parser)


def _about(data: bytes) -> dict[str, str]:
    root = _tree(data)
    found = {"title": f"{_DC}title", "author": f"{_DC}creator"}
    return {key: " ".join((root.findtext(f".//{tag}") or "").split()) for key, tag in found.items()}


def _blocks(parent: Any) -> Iterator[Any]:
    """Headings, paragraphs and outermost tables in reading order, also within lists, sections and text boxes."""
    waiting = list(reversed(parent))
    while waiting:
        element = waiting.pop()
        if element.tag in (_H, _P, _TBL):
            yield element
        if element.tag != _TBL and element.tag not in _SKIPPED:
            waiting.extend(reversed(element))


def _add(block: Any, outline: Outline) -> None:
    if block.tag == _TBL:
        outline.add(_table(block))
        return
    text = _words(block)
    if block.tag == _H:
        level = block.get(f"{_TEXT}outline-level", "1")
        outline.heading(int(level) if level.isdecimal() and len(level) < 3 else 1, text)
    else:
        is_item = next(block.iterancestors(_LIST_ITEM), None) is not None
        outline.add(f"- {text}" if is_item and text.strip() else text)


def _words(paragraph: Any) -> str:
    """The text of a paragraph without that of paragraphs within it (text boxes, notes)."""
    parts = [paragraph.text or ""]
    waiting = [(child, False) for child in reversed(paragraph)]
    while waiting:
        element, done = waiting.pop()
        if done:
            parts.append(element.tail or "")
            continue
        waiting.append((element, True))
        if not isinstance(element.tag, str) or element.tag in _SKIPPED or element.tag in (_P, _H, _TBL):
            continue
        if element.tag == f"{_TEXT}s":
            count = element.get(f"{_TEXT}c", "1")
            parts.append(" " * min(int(count) if count.isdecimal() and len(count) < 9 else 1, _MOST_BLANKS))
        parts.append(_CHARACTERS.get(element.tag, ""))
        parts.append(element.text or "")
        waiting += [(child, False) for child in reversed(element)]
    return "".join(parts)


def _table(table: Any) -> str:
    rows: list[list[tuple[str, int, int]]] = []
    header_rows = 0
    for row in table.iter(f"{_TABLE}table-row"):
        if next(row.iterancestors(_TBL)) is not table:
            continue
        header_rows += header_rows == len(rows) and row.getparent().tag == f"{_TABLE}table-header-rows"
        rows.append([cell for child in row.iterchildren(f"{_TABLE}table-cell") for cell in _cells(child)])
    return table_text(fill_spans(rows, header_rows), header_rows)


def _cells(cell: Any) -> list[tuple[str, int, int]]:
    """A cell as (text, columns, rows), as often as it is repeated; what is nested in it is flattened."""
    text = " ".join(" ".join(map(_words, cell.iter(_P, _H))).split())
    repeated = min(_number(cell, "number-columns-repeated"), WIDEST)
    return [(text, _number(cell, "number-columns-spanned"), _number(cell, "number-rows-spanned"))] * repeated


def _number(cell: Any, name: str) -> int:
    value = cell.get(f"{_TABLE}{name}", "1")
    return max(int(value), 1) if value.isdecimal() and len(value) < 9 else 1
