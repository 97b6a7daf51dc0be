"""Whether two samples are of one distribution."""

import numpy as np
import pytest

from services.scheduler.drift.two_samples import energy_test, kolmogorov_smirnov_test

RANDOM = np.random.default_rng(7)


def vectors(count: int, direction: int, spread: float = 0.3) -> np.ndarray:
    center = np.zeros(16)
    center[direction] = 1.0
    return center + RANDOM.normal(0, spread, (count, 16))


def test_vectors_of_one_direction_are_alike_and_of_two_are_not() -> None:
    alike = energy_test(vectors(80, 0), vectors(60, 0))
    assert alike.distance < 0.02
    assert alike.p_value > 0.01
    different = energy_test(vectors(80, 0), vectors(60, 1))
    assert different.distance > 0.1
    assert different.p_value == pytest.approx(0.001)


def test_the_coefficient_of_two_points_is_1_and_of_one_point_0() -> None:
    one, other = np.tile([1.0, 0.0], (50, 1)), np.tile([0.0, 1.0], (50, 1))
    assert energy_test(one, other).distance == pytest.approx(1.0)
    same = energy_test(one, one)
    assert (same.distance, same.p_value) == (0.0, 1.0)


def test_the_energy_is_that_of_the_definition() -> None:
    first, second = vectors(5, 0), vectors(7, 1, 0.1)

    def mean(ones: np.ndarray, others: np.ndarray, pairs: int) -> float:
        unit = [one / np.linalg.norm(one) for one in ones], [other / np.linalg.norm(other) for other in others]
        return sum(float(np.linalg.norm(a - b)) for a in unit[0] for b in unit[1]) / pairs

    apart = 2 * mean(first, second, 35)
    expected = (apart - mean(first, first, 20) - mean(second, second, 42)) / apart
    assert energy_test(first, second).distance == pytest.approx(expected)


def test_length_does_not_matter_but_for_none() -> None:
    first, second = vectors(50, 0), vectors(50, 1)
    assert energy_test(9 * first, second / 9).distance == pytest.approx(energy_test(first, second).distance)
    assert energy_test(np.zeros((50, 16)), second).p_value == pytest.approx(0.001)


def test_the_distance_of_scores_is_that_of_the_textbook_and_bears_ties() -> None:
    first, second = np.repeat([0.2, 0.8], [50, 50]), np.repeat([0.2, 0.8], [80, 20])
    found = kolmogorov_smirnov_test(first, second)
    assert found.distance == pytest.approx(0.3)
    assert found.p_value < 0.01
    same = kolmogorov_smirnov_test(first, first)
    assert (same.distance, same.p_value) == (0.0, 1.0)


def test_few_samples_of_one_distribution_are_held_for_two() -> None:
    draws = [(RANDOM.beta(8, 2, 60), RANDOM.beta(8, 2, 90)) for _ in range(100)]
    assert sum(kolmogorov_smirnov_test(*draw).p_value < 0.05 for draw in draws) <= 12
    many = [(vectors(50, 0), vectors(60, 0)) for _ in range(100)]
    assert sum(energy_test(*draw).p_value < 0.05 for draw in many) <= 12
