"""Runs in words and as a page."""

from datetime import UTC, datetime

import pytest

from sluice.api.runs import CodeVersion, DataVersion, MetricSeries, Run
from sluice.cli.run_page import as_page
from sluice.cli.run_report import main_metrics, number, sparkline
from sluice.client.run_comparison import compare

AT = datetime(2026, 1, 1, tzinfo=UTC)


def run(name: str, **members: object) -> Run:
    return Run.model_validate({"id": name, "kind": "train", "collection": "docs", "started_at": AT, **members})


def series(name: str, *values: float | None) -> MetricSeries:
    steps = tuple(range(len(values)))
    return MetricSeries(name=name, steps=steps, values=values, times=(AT,) * len(values))


A = run(
    "a",
    parameters={"rate": 0.1, "batch": 8},
    metrics={"ndcg": 0.5, "questions": 10.0},
    main_metrics=["ndcg"],
    code=CodeVersion(version="1"),
    data=DataVersion(files={"x/q": "digest"}),
)
B = run(
    "b",
    parameters={"rate": 0.2, "batch": 8, "extra": True},
    metrics={"other": 1.0, "ndcg": 0.75, "questions": 10.0},
    main_metrics=["ndcg"],
    code=CodeVersion(version="2"),
    data=DataVersion(files={"y/q": "digest"}),
)


def test_a_comparison_has_what_differs_and_every_metric_with_its_difference() -> None:
    found = compare([A, B])
    assert found.parameters == {"rate": (0.1, 0.2), "extra": (None, True)}
    assert found.same == 3
    assert found.versions == {"sluice": ("1", "2")}, "the same file under another name is the same data"
    assert list(found.metrics) == ["ndcg", "questions", "other"]
    assert found.differences("ndcg") == (0.0, 0.25)
    assert found.differences("other") == (None, None)


def test_one_run_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="two runs or more"):
        compare([A])


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ((), ""),
        ((1.0,), "▄"),
        ((2.0, 2.0), "▄▄"),
        ((0.0, None, 7.0), "▁ █"),
        ((None, None), "  "),
        (tuple(float(n) for n in range(80)), "".join(block * 5 for block in "▁▂▃▄▅▆▇█")),
    ],
)
def test_a_series_is_a_line_of_blocks(values: tuple[float | None, ...], line: str) -> None:
    drawn = sparkline(values)
    assert len(drawn) == len(line)
    if len(values) < 80:
        assert drawn == line


def test_numbers_are_written_in_few_digits() -> None:
    assert [number(value) for value in (1234.0, 0.5, 1e-6, 123456.7, None)] == [
        "1,234",
        "0.5000",
        "1e-06",
        "1.235e+05",
        "",
    ]
    assert main_metrics(A) == "ndcg 0.5000"


def test_the_page_has_lines_coordinates_and_bars_and_needs_nothing_else() -> None:
    evil = run("<script>", parameters={"rate": 0.3, "name": "<b>"}, metrics={"ndcg": 0.1})
    page = as_page(
        [A, B, evil],
        [[series("loss", 3.0, None, 1.0, 0.5)], [series("loss", 2.0, 1.0), series("empty", None)], []],
    )
    assert page.count("<polyline") >= 3 + 3
    assert page.count('<rect class="bar') >= 3
    assert "<script>" not in page
    assert "<b>" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_a_page_of_one_run_has_its_parameters() -> None:
    page = as_page([A], [[series("loss", 1.0)]])
    assert "<h2>Parameters</h2>" in page
    assert "Metrics by step" in page
