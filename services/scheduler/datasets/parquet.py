"""The files of rows. To be imported where a file is written: PyArrow takes 60 MB, which few schedulers need."""

from collections.abc import Sequence
from io import BufferedIOBase
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from services.scheduler.datasets.rows import Answer, Preference, Row

__all__ = ["ANSWERS", "PREFERENCES", "ROWS", "RowWriter"]

_TEXTS: Final = pa.list_(pa.string())
_NUMBERS: Final = pa.list_(pa.int32())

ROWS: Final = pa.schema(
    [
        ("question", pa.string()),
        ("positive", pa.string()),
        ("negatives", _TEXTS),
        ("documents", _TEXTS),
        ("origin", pa.string()),
    ]
)
"""The columns of train.parquet and test.parquet."""

ANSWERS: Final = pa.schema(
    [
        ("question", pa.string()),
        ("passages", _TEXTS),
        ("sources", _TEXTS),
        ("cited", _NUMBERS),
        ("answer", pa.string()),
        ("documents", _TEXTS),
        ("origin", pa.string()),
    ]
)
"""The columns of answers.parquet and test_answers.parquet."""

PREFERENCES: Final = pa.schema(
    [
        ("question", pa.string()),
        ("context", pa.string()),
        ("passages", _TEXTS),
        ("sources", _TEXTS),
        ("cited", _NUMBERS),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("documents", _TEXTS),
        ("origin", pa.string()),
    ]
)
"""The columns of preferences.parquet and test_preferences.parquet."""


class RowWriter:
    """Writes rows to a Parquet file, some at a time. The file is whole once the writer is closed."""

    def __init__(self, file: BufferedIOBase, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")
        self._schema = schema
        self.count = 0

    def write(self, rows: Sequence[Row] | Sequence[Answer] | Sequence[Preference]) -> None:
        """Add rows, as one group of rows."""
        if rows:
            self._writer.write_table(pa.Table.from_pylist([row.model_dump() for row in rows], schema=self._schema))
            self.count += len(rows)

    def close(self) -> None:
        self._writer.close()
