"""Histories of metrics: bounded, the same after their file is read, and joined where a job went on."""

import json
from itertools import pairwise

import pytest

from shared.contracts.metrics import MOST_METRICS, MOST_POINTS, MetricHistory


def history(**series: list[tuple[int, float | None]]) -> MetricHistory:
    made = MetricHistory()
    for name, points in series.items():
        for step, value in points:
            made.add(step, 100.0 + step, {name: value})
    return made


def steps(found: MetricHistory, name: str = "loss") -> list[int]:
    return [point.step for point in found.points(name)]


def test_the_file_has_a_line_per_step_with_all_of_its_metrics() -> None:
    made = history(loss=[(1, 0.5), (2, float("inf"))], score=[(2, 3.0)])
    lines = [json.loads(line) for line in made.encode().splitlines()]
    assert lines == [{"step": 1, "at": 101.0, "loss": 0.5}, {"step": 2, "at": 102.0, "loss": None, "score": 3.0}]
    assert MetricHistory.decode(made.encode()).encode() == made.encode()


def test_a_step_that_comes_late_or_again_has_its_place() -> None:
    made = history(loss=[(1, 1.0), (5, 5.0), (3, 3.0), (5, 6.0)])
    assert [(point.step, point.value) for point in made.points("loss")] == [(1, 1.0), (3, 3.0), (5, 6.0)]


def test_of_very_many_points_an_even_share_is_kept_with_the_first_and_the_last() -> None:
    made = MetricHistory()
    for step in range(20_123):
        made.add(step, 0.0, {"loss": 1.0, **({"rare": 2.0} if step % 5_000 == 0 else {})})
    kept = steps(made)
    assert MOST_POINTS / 2 <= len(kept) <= MOST_POINTS
    assert (kept[0], kept[-1]) == (0, 20_122)
    assert len({after - before for before, after in pairwise(kept[:-1])}) == 1
    assert len(made.points("rare")) == 5, "a metric that is seldom logged keeps all of its points"


def test_a_history_goes_on_after_one_that_broke_off_metric_by_metric() -> None:
    earlier = history(loss=[(1, 1.0), (2, 1.0), (3, 1.0)], score=[(2, 1.0)])
    joined = history(loss=[(3, 2.0), (4, 2.0)]).after(earlier)
    assert [(point.step, point.value) for point in joined.points("loss")] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert steps(joined, "score") == [2]


@pytest.mark.parametrize("name", ["", "step", "at", "1st", "a b", "a" * 65, "größe"])
def test_a_name_that_is_not_a_metrics_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a metric's name"):
        MetricHistory().add(0, 0.0, {name: 1.0})


def test_one_metric_too_many_and_a_negative_step_are_refused() -> None:
    made = MetricHistory()
    made.add(0, 0.0, {f"m{number}": 1.0 for number in range(MOST_METRICS)})
    with pytest.raises(ValueError, match="at most"):
        made.add(1, 0.0, {"more": 1.0})
    with pytest.raises(ValueError, match="a step"):
        made.add(-1, 0.0, {"m0": 1.0})


@pytest.mark.parametrize(
    "damage", [b"\xff\n", b"[]\n", b'{"step": true}\n', b'{"step": 1, "bad name": 1}\n', b'{"step": 2, "at": "x"}\n']
)
def test_what_is_not_a_line_of_metrics_is_left_out(damage: bytes) -> None:
    found = MetricHistory.decode(damage + b'{"step": 3, "at": 1.5, "loss": 0.5, "word": "x", "flag": true}\n')
    assert (found.names, steps(found)) == (("loss",), [3])
