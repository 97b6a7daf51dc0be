"""The vector of a question that was expanded, with a model whose vectors are easy to follow."""

import numpy as np
import pytest

from services.embedder.stages.embed import _mixed

AXES = np.eye(3, dtype="<f4")


def mixed(*rows: np.ndarray) -> np.ndarray:
    first, *others = (row.astype("<f4").tobytes() for row in rows)
    return np.frombuffer(_mixed(first, others), dtype="<f4")


def test_the_question_has_half_of_it_and_the_rest_share_the_other_half() -> None:
    vector = mixed(AXES[0], AXES[1], AXES[2])
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert vector == pytest.approx(np.array([2, 1, 1]) / np.sqrt(6))


def test_what_says_the_same_changes_nothing() -> None:
    assert mixed(AXES[0], AXES[0], AXES[0]) == pytest.approx(AXES[0])


def test_opposites_leave_a_vector_of_numbers() -> None:
    assert mixed(AXES[0], -AXES[0]).tolist() == [0, 0, 0]
