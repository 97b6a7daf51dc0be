import json
from collections import Counter

from services.scheduler.datasets.examples import LeftOut, Origin
from services.scheduler.datasets.page import as_page
from services.scheduler.datasets.rows import Mined, Preference, Row
from services.scheduler.datasets.summary import Summary
from shared.contracts.jobs import DatasetSpec

SPEC = DatasetSpec(collection="docs", questions=("a/b.jsonl",))


def _mined(number: int, *, is_test: bool = False, negatives: int = 1, rows: int = 1) -> Mined:
    question = f"What is <b>{number}</b> {'long ' * number}?"
    row = Row(
        question=question,
        positive=f"It is <i>{number}</i>.",
        negatives=tuple(f"Not {n}" for n in range(negatives)),
        documents=(f"d{number}",),
        origin=Origin.FEEDBACK,
    )
    return Mined(
        question=question,
        group=f"d{number}",
        origin=Origin.FEEDBACK,
        is_test=is_test,
        rows=(row,) * rows,
        preferences=(Preference(question=question, context="c", chosen="So", rejected="Not so"),),
        left_out=() if rows else (LeftOut.NOT_THERE,),
        skipped={"near": 2},
    )


def _summary() -> Summary:
    summary = Summary(left_out=Counter({LeftOut.TOO_LONG: 3}))
    summary.add([_mined(n) for n in range(12)])
    summary.add([_mined(50, is_test=True, negatives=4, rows=2), _mined(51, is_test=True, rows=0)])
    return summary


def test_counts_are_those_of_the_rows() -> None:
    summary = _summary()
    assert summary.train.as_json() == {
        "rows": 12,
        "questions": 12,
        "negatives": 12,
        "documents": 12,
        "groups": 12,
        "answers": 0,
        "preferences": 12,
        "origins": {"feedback": 12},
    }
    assert (summary.test.rows, summary.test.questions, summary.test.negatives) == (2, 1, 8)
    assert (summary.documents, summary.preferences, summary.skipped) == (13, 14, {"near": 28})
    assert summary.left_out == {LeftOut.TOO_LONG: 3, LeftOut.NOT_THERE: 1}
    json.dumps(summary.test.as_json())


def test_the_page_shows_rows_and_reasons_and_escapes_what_people_wrote() -> None:
    page = as_page(SPEC, "v2", "f" * 64, _summary(), 7, "job-1").decode()
    for said in (
        "Data set of docs, version v2",
        "7 records of feedback",
        "1 set of questions",
        "Left out: 4",
        "f" * 64,
    ):
        assert said in page
    assert LeftOut.NOT_THERE.value in page
    assert "40 or more" in page
    assert "<b>" not in page
    assert "&lt;i&gt;3&lt;/i&gt;" in page
    assert page.count("<svg") > 5


def test_a_data_set_without_anything_has_a_page() -> None:
    assert b"Left out: 0" in as_page(SPEC, "v1", "", Summary(left_out=Counter()), 0, "job")
