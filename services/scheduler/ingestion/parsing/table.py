"""CSV and TSV: every row carries the names of its columns, so that it is understood on its own."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from typing import Literal

from services.scheduler.ingestion.parsing.columns import LOOKED_AT, WIDEST, find_shape, named
from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.rows import record

__all__ = ["parse_csv", "parse_tsv"]

_DELIMITERS = ",;\t|"
_SAMPLE_CHARS = 65_536
_SEP = re.compile(r"\s*sep=(.)\r?\n", re.IGNORECASE)  # the first line by which a file tells Excel its delimiter
csv.field_size_limit(2**31 - 1)  # the size of a document is bounded before it gets here


def parse_csv(source: Source) -> ParsedDocument:
    """Rows as paragraphs of "column: value" lines; the delimiter is found out, empty values left out.

    What stands above the header is a paragraph of its own.
    """
    text = decode(source.data)
    if given := _SEP.match(text):
        return _parse(source, text[given.end() :], given[1])
    return _parse(source, text, _delimiter(text[:_SAMPLE_CHARS]))


def parse_tsv(source: Source) -> ParsedDocument:
    """As `parse_csv`, separated by tabs."""
    return _parse(source, decode(source.data), "\t")


def _parse(source: Source, text: str, delimiter: str) -> ParsedDocument:
    quoting = _quoting(text, delimiter)
    records = "\n\n".join(_records(_rows(text, delimiter, quoting)))
    return ParsedDocument(media_type=source.media_type, sections=(Section(text=records),))


def _rows(text: str, delimiter: str, quoting: Literal[0, 3]) -> Iterator[list[str]]:
    """The rows that are not blank. Quotes count unless `quoting` is csv.QUOTE_NONE."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    return (row for row in reader if any(map(str.strip, row)))


def _records(rows: Iterator[list[str]]) -> Iterator[str]:
    head = list(islice(rows, LOOKED_AT))
    if not head:
        return
    shape = find_shape(head)
    if shape.start:
        yield "\n".join(" ".join(filter(None, map(str.strip, row))) for row in head[: shape.start])
    if shape.names is not None and shape.body == len(head):
        yield "\n".join(shape.names)
    names: list[str] = []
    for row in chain(head[shape.body :], rows):
        if len(names) < len(row) <= WIDEST:
            names = named(shape.names, len(row))
        yield record(names, row)


def _delimiter(sample: str) -> str:
    """The candidate that splits most of the first lines into the same number of fields, at least two; else a comma."""
    best, most = ",", (0.0, 1)
    for delimiter in _DELIMITERS:
        found = _regular(sample, delimiter, csv.QUOTE_MINIMAL)
        if found > most:
            best, most = delimiter, found
    return best


def _quoting(text: str, delimiter: str) -> Literal[0, 3]:
    """Whether quotes are quotes. They are inches, say, where rows are regular without them, and else some would not
    be, or would go over several lines."""
    if '"' not in text:
        return csv.QUOTE_MINIMAL
    sample = text[:_SAMPLE_CHARS]
    quoted, plain = (_regular(sample, delimiter, quoting) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE))
    if plain[0] < 1.0:
        return csv.QUOTE_MINIMAL
    rows = islice(_rows(sample, delimiter, csv.QUOTE_MINIMAL), LOOKED_AT)
    several = any("\n" in cell for row in rows for cell in row)
    return csv.QUOTE_NONE if several or quoted[0] < 1.0 else csv.QUOTE_MINIMAL


def _regular(sample: str, delimiter: str, quoting: Literal[0, 3]) -> tuple[float, int]:
    """The share of rows that have the most common width, and this width; (0, 0) where it is one field."""
    rows = list(islice(_rows(sample, delimiter, quoting), LOOKED_AT))
    rows = rows[:-1] if len(rows) > 2 and len(sample) == _SAMPLE_CHARS else rows
    widths = Counter(len(row) for row in rows if len(row) > 1)
    if not widths:
        return 0.0, 0
    width = max(widths, key=lambda one: (widths[one], one))
    return widths[width] / len(rows), width
