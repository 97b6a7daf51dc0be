"""CSV and TSV: every row carries the names of its columns, so that it is understood on its own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source

__all__ = ["parse_csv", "parse_tsv"]

_DELIMITERS = ",;\t|"
_SAMPLE_CHARS = 65_536
_WIDEST = 1_000  # a row of more columns is not understood through their names
csv.field_size_limit(2**31 - 1)  # the size of a document is bounded before it gets here
_NUMBER = re.compile(r"[-+]?[\d.,\s%]+\Z")


def parse_csv(source: Source) -> ParsedDocument:
    """Rows as paragraphs of "column: value" lines; the delimiter is found out, empty values left out."""
    text = decode(source.data)
    return _parse(source, text, _delimiter(text[:_SAMPLE_CHARS]))


def parse_tsv(source: Source) -> ParsedDocument:
    """As `parse_csv`, separated by tabs."""
    return _parse(source, decode(source.data), "\t")


def _parse(source: Source, text: str, delimiter: str) -> ParsedDocument:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    records = "\n\n".join(_records(row for row in rows if any(map(str.strip, row))))
    return ParsedDocument(media_type=source.media_type, sections=(Section(text=records),))


def _records(rows: Iterator[list[str]]) -> Iterator[str]:
    first = next(rows, None)
    if first is None:
        return
    columns = [name.strip() for name in first]
    if not _is_header(columns):
        yield _record((), first)
        columns = []
    empty = True
    for row in rows:
        empty = False
        yield _record(columns, row)
    if empty and columns:
        yield "\n".join(columns)


def _is_header(columns: list[str]) -> bool:
    """Names are distinct, not empty and not numbers."""
    named = all(name and not _NUMBER.match(name) for name in columns)
    return named and len(set(columns)) == len(columns)


def _record(columns: tuple[str, ...] | list[str], row: list[str]) -> str:
    values = [" ".join(filter(None, map(str.strip, value.splitlines()))) for value in row]
    if len(values) > _WIDEST:
        return " | ".join(filter(None, values))
    lines = []
    for index, value in enumerate(values):
        if value:
            name = columns[index] if index < len(columns) else f"column {index + 1}"
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


def _delimiter(sample: str) -> str:
    """The candidate that splits the first lines into the same number of fields, at least two; else a comma."""
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row][:20]
        widths = {len(row) for row in (rows[:-1] if len(rows) > 2 else rows)}
        if len(widths) == 1 and (width := widths.pop()) > most:
            best, most = delimiter, width
    return best
