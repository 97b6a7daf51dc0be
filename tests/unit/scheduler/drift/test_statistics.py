"""How far numbers are from a reference."""

import math

import numpy as np
import pytest

from services.scheduler.drift.statistics import Reference

RANDOM = np.random.default_rng(7)


def normal(rows: int, columns: int = 3, mean: float = 0.0) -> np.ndarray:
    return RANDOM.normal(mean, 1.0, (rows, columns))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(normal(2000))


def test_the_same_distribution_is_alike(reference: Reference) -> None:
    rows = normal(1000)
    assert (reference.stability(rows) < 0.1).all()
    assert (reference.kolmogorov_smirnov(rows) < 0.1).all()
    assert reference.outliers(rows) < 0.02


def test_a_column_that_has_moved_is_found_alone(reference: Reference) -> None:
    rows = normal(1000)
    rows[:, 1] += 1.0
    assert list(reference.stability(rows) > 0.25) == [False, True, False]
    assert list(reference.kolmogorov_smirnov(rows) > 0.25) == [False, True, False]


def test_the_index_is_that_of_the_textbook() -> None:
    before = np.repeat([0.0, 1.0], [50, 50]).reshape(-1, 1)
    now = np.repeat([0.0, 1.0], [80, 20]).reshape(-1, 1)
    expected = (0.8 - 0.5) * math.log(0.8 / 0.5) + (0.2 - 0.5) * math.log(0.2 / 0.5)
    assert Reference(before).stability(now) == pytest.approx([expected], abs=1e-9)
    assert Reference(before).kolmogorov_smirnov(now) == pytest.approx([0.3])


def test_what_was_constant_and_is_not_is_found() -> None:
    reference = Reference(np.full((100, 1), 5.0))
    assert reference.stability(np.full((100, 1), 5.0)) == pytest.approx([0.0])
    for other in (4.0, 6.0):
        assert reference.stability(np.full((100, 1), other))[0] > 1


def test_rows_that_are_usual_in_each_column_may_be_outliers_together() -> None:
    first = RANDOM.normal(0, 1, 2000)
    reference = Reference(np.column_stack((first, first + RANDOM.normal(0, 0.1, 2000))))
    together = np.column_stack((np.full(100, 1.5), np.full(100, -1.5)))
    assert reference.outliers(together) == 1.0
    assert reference.outliers(np.column_stack((np.full(100, 1.5), np.full(100, 1.5)))) == 0.0


def test_heavy_tails_are_no_outliers_of_themselves() -> None:
    reference = Reference(RANDOM.standard_cauchy((5000, 2)))
    assert reference.outliers(RANDOM.standard_cauchy((5000, 2))) < 0.01


def test_columns_that_depend_on_each_other_and_missing_values_are_borne() -> None:
    column = RANDOM.normal(0, 1, 500)
    rows = np.column_stack((column, 2 * column, np.full(500, math.nan)))
    rows[0, 0] = math.nan
    reference = Reference(rows)
    assert math.isnan(reference.outliers(rows))
    psi = reference.stability(rows)
    assert list(np.isnan(psi)) == [False, False, True]
    assert psi[:2] == pytest.approx([0, 0], abs=0.01)
    assert not math.isnan(Reference(rows[:, :2]).outliers(rows[:, :2]))


def test_huge_numbers_are_borne() -> None:
    rows = np.column_stack((np.linspace(-5e307, 5e307, 200), np.full(200, 1e-300)))
    with np.errstate(all="ignore"):
        reference = Reference(rows)
        assert reference.stability(rows) == pytest.approx([0, 0])
        assert 0 <= reference.outliers(rows) <= 1
