from io import BytesIO
from typing import Any

import pyarrow.parquet as pq

from services.scheduler.datasets.examples import Origin
from services.scheduler.datasets.parquet import ANSWERS, PREFERENCES, ROWS, RowWriter
from services.scheduler.datasets.rows import Answer, Preference, Row, RowHash

ROW = Row(question="Wie lang?", positive="Zwölf.", negatives=("a", "b"), documents=("d",), origin=Origin.QUESTIONS)
SHOWN: dict[str, Any] = {"passages": ("Text", "Other"), "sources": ("d", "e"), "cited": (1,), "documents": ("d",)}
PREFERENCE = Preference(question="How?", context="Text", chosen="So.", rejected="Not so.", **SHOWN)
ANSWER = Answer(question="How?", answer="So.", origin=Origin.FEEDBACK, **SHOWN)


def _hash(*rows: Row | Preference, side: str = "train") -> str:
    made = RowHash()
    for row in rows:
        made.add(side, [row])
    return made.hexdigest()


def test_the_hash_is_that_of_the_rows_in_their_order_on_their_side() -> None:
    other = ROW.model_copy(update={"negatives": ("b", "a")})
    assert _hash(ROW) == "597b023690042333bf1625e76f73a61002cf33cb3baf64e6188b5fcb74595bba"
    assert len({_hash(ROW), _hash(other), _hash(ROW, other), _hash(other, ROW), _hash(ROW, side="test")}) == 5


def test_files_hold_the_columns_as_trainers_read_them() -> None:
    for schema, rows in ((ROWS, [ROW]), (ANSWERS, [ANSWER]), (PREFERENCES, [PREFERENCE])):
        file = BytesIO()
        writer = RowWriter(file, schema)
        writer.write(rows)
        writer.write([])
        writer.write(rows)
        writer.close()
        read = pq.read_table(file)
        assert read.schema.names == schema.names
        assert read.to_pylist() == [one.model_dump(mode="json") for one in rows * 2]


def test_a_file_without_rows_has_its_columns() -> None:
    file = BytesIO()
    RowWriter(file, PREFERENCES).close()
    shown = ["question", "context", "passages", "sources", "cited"]
    assert pq.read_table(file).schema.names == [*shown, "chosen", "rejected", "documents", "origin"]
    assert pq.read_schema(file).names == PREFERENCES.names
