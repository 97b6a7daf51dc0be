"""Spreadsheets (.xlsx, .xlsm, .xlsb, .xls, .ods): one section a sheet, every row with the names of its columns."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import python_calamine

from services.scheduler.ingestion.parsing.archives import OLE, check_office, reject_encrypted, reject_encrypted_odf
from services.scheduler.ingestion.parsing.columns import LOOKED_AT, TableShape, evidence, find_shape, named
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.rows import record
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["parse"]

Cell = Any


def parse(source: Source) -> ParsedDocument:
    """Values as they were saved, also of formulas and of hidden sheets, rows as paragraphs of "column: value" lines.

    Rows that are set apart by blank rows are tables of their own where they begin with names. Charts, pictures and
    comments are not read.
    """
    if source.data.startswith(OLE):
        reject_encrypted(source.data)
    else:
        check_office(source.data)
        reject_encrypted_odf(source.data)
    try:
        book = python_calamine.load_workbook(io.BytesIO(source.data))
        sheets = [_Sheet(book, name) for name in book.sheet_names]
        sections = tuple(Section(text=sheet.text(), heading=(sheet.name,)) for sheet in sheets)
    except python_calamine.PasswordError as error:
        raise Problem(ProblemType.ENCRYPTED_DOCUMENT, "Remove the password and upload the file again.") from error
    except BaseException as error:
        # What the library's own code did not expect is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise Problem(ProblemType.BROKEN_DOCUMENT, "The spreadsheet is damaged.") from error
    warnings = tuple(warning for sheet in sheets for warning in sheet.warnings())
    return ParsedDocument(media_type=source.media_type, sections=sections, warnings=warnings)


class _Sheet:
    """One sheet and what was guessed in it."""

    def __init__(self, book: Any, name: str) -> None:
        self.name = name
        self._sheet = book.get_sheet_by_name(name)
        self._merged = 0

    def text(self) -> str:
        rows = [[_value(cell) for cell in row] for row in self._sheet.to_python()]
        self._fill(rows)
        paragraphs: list[str] = []
        names: list[str] | None = None
        for block in _blocks(rows):
            shape = find_shape(block)
            if names is not None and not _has_own_header(block, shape, names):
                shape = TableShape(0, None)
            elif shape.names is not None or shape.start:
                names = shape.names
            paragraphs += _records(block, shape, names)
        return "\n\n".join(paragraphs)

    def warnings(self) -> Iterator[DocumentWarning]:
        if self._merged:
            what = "1 merged cell is" if self._merged == 1 else f"{self._merged:,} merged cells are"
            detail = f"Sheet {self.name!r}: {what} read as if each row had the value."
            yield DocumentWarning(kind=WarningKind.GUESSED_TABLE, detail=detail)

    def _fill(self, rows: list[list[str]]) -> None:
        """Repeat the value of a merged cell in each row that it covers."""
        top, left = self._sheet.start or (0, 0)
        for (first, column), (last, _) in self._sheet.merged_cell_ranges or ():
            place = column - left
            if last == first or not 0 <= first - top < len(rows) or not 0 <= place < len(rows[first - top]):
                continue
            value = rows[first - top][place]
            for row in rows[first - top + 1 : last - top + 1]:
                row[place] = row[place] or value
            self._merged += bool(value)


def _blocks(rows: Iterable[Sequence[str]]) -> Iterator[list[list[str]]]:
    """Rows without blank rows between them, without the columns beside them that are blank in all of them."""
    block: list[list[str]] = []
    for row in [*rows, []]:
        cells = list(row)
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            block.append(cells)
        elif block:
            width = max(map(len, block))
            left = min(next(index for index, cell in enumerate(one) if cell) for one in block)
            yield [[*one[left:], *[""] * (width - len(one))] for one in block]
            block = []


def _has_own_header(block: Sequence[Sequence[str]], shape: TableShape, names: Sequence[str]) -> bool:
    """Whether rows after a blank one are another table: of another width, under a title, or numbers under words."""
    if shape.names is None or shape.body >= len(block):
        return False
    below = block[shape.body : LOOKED_AT]
    return shape.start > 0 or len(block[0]) != len(names) or evidence(shape.names, below) > 1


def _records(block: Sequence[Sequence[str]], shape: TableShape, names: list[str] | None) -> Iterator[str]:
    if shape.start:
        yield "\n".join(" ".join(filter(None, row)) for row in block[: shape.start])
    if shape.names is not None and shape.body == len(block):
        yield "\n".join(filter(None, shape.names))
    distinct = named(names, len(block[0]))
    for row in block[shape.body :]:
        yield record(distinct, row)


def _value(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime.datetime):
        return (
            cell.isoformat(" ", "minutes" if not cell.second else "seconds") if cell.time() else cell.date().isoformat()
        )
    return str(cell).strip()
