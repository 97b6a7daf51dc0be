"""The rows of a data set, read from the Parquet files that a job of the kind `dataset` leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.contracts.problems import Problem, ProblemType

__all__ = ["Row", "read_columns", "read_rows"]

MOST_ROWS: Final = 2_000_000
"""Rows that are read into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question with a passage that answers it, and passages that do not. `documents` hold the answer."""

    question: str
    positive: str
    negatives: tuple[str, ...]
    documents: tuple[str, ...]


def read_rows(path: Path, name: str) -> list[Row]:
    """The rows of `train.parquet` or `test.parquet`. Raises Problem INVALID_REQUEST, which calls the file `name`."""
    lines = read_columns(path, name, texts=("question", "positive"), lists=("negatives", "documents"))
    return [
        Row(
            question=line["question"],
            positive=line["positive"],
            # A passage that is the right one too would teach the opposite.
            negatives=tuple(dict.fromkeys(text for text in line["negatives"] if text and text != line["positive"])),
            documents=tuple(line["documents"]),
        )
        for line in lines
        if line["question"] and line["positive"]
    ]


def read_columns(
    path: Path, name: str, *, texts: Sequence[str], lists: Sequence[str], numbers: Sequence[str] = ()
) -> list[Mapping[str, Any]]:
    """Rows of these columns: texts, lists of texts, and lists of whole numbers; without nulls.

    Raises Problem INVALID_REQUEST, which calls the file `name`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check(file.schema_arrow, file.metadata.num_rows, name, texts=texts, lists=lists, numbers=numbers)
            table = file.read(columns=[*texts, *lists, *numbers])
    except (pa.ArrowException, OSError) as error:
        raise _invalid(f"'{name}' cannot be read as a Parquet file: {error}") from None
    rows: list[Mapping[str, Any]] = table.to_pylist()
    return [_filled(row, (*lists, *numbers)) for row in rows]


def _check(
    schema: Any, count: int, name: str, *, texts: Sequence[str], lists: Sequence[str], numbers: Sequence[str]
) -> None:
    import pyarrow as pa

    def is_text(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    if missing := [column for column in (*texts, *lists, *numbers) if column not in schema.names]:
        raise _invalid(f"'{name}' has no column {', '.join(missing)}; it has {', '.join(schema.names) or 'none'}.")
    wrong = [column for column in texts if not is_text(schema.field(column).type)]
    for column in (*lists, *numbers):
        kind = schema.field(column).type
        fits = pa.types.is_integer if column in numbers else is_text
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not fits(kind.value_type):
            wrong.append(column)
    if wrong:
        found = ", ".join(f"{column} is {schema.field(column).type}" for column in wrong)
        raise _invalid(
            f"Columns of '{name}' have the wrong type: {found}. Texts are strings, the others lists of them."
        )
    if count > MOST_ROWS:
        raise _invalid(f"'{name}' has {count:,} rows; at most {MOST_ROWS:,} are trained on. Make a smaller data set.")


def _filled(row: Mapping[str, Any], lists: Sequence[str]) -> Mapping[str, Any]:
    """Without nulls, which a Parquet file may hold anywhere."""
    return {
        name: [one for one in value or () if one is not None] if name in lists else value or ""
        for name, value in row.items()
    }


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"The data set cannot be trained on. {detail}")
