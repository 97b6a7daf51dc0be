"""Sets of rows, and the vectors of rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.serving.rows import distinct
from services.retriever.serving.vectors import VECTORS_AT_ONCE, Vectors, quantize

ROWS = st.lists(st.integers(0, 50)).map(lambda rows: np.array(rows, np.int64))


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_the_rows_of_all_parts_come_once_in_ascending_order(parts: list[np.ndarray]) -> None:
    before = [part.tolist() for part in parts]
    assert distinct(parts).tolist() == sorted({row for part in before for row in part})
    assert [part.tolist() for part in parts] == before


@given(st.integers(0, 3 * VECTORS_AT_ONCE), st.sampled_from([1, 8, 384]))
def test_cosines_are_those_of_the_rows_however_many_are_compared(count: int, dimension: int) -> None:
    rng = np.random.default_rng(count)
    vectors = rng.standard_normal((2 * VECTORS_AT_ONCE, dimension)).astype(np.float32)
    held = Vectors.of(*quantize(vectors), None)
    rows = rng.integers(0, len(vectors), count)
    unit = vectors[0] / np.linalg.norm(vectors[0])
    cosines = vectors[rows] @ unit / np.linalg.norm(vectors[rows], axis=1)
    np.testing.assert_allclose(held.similarities(rows, unit), cosines, atol=2e-4)
