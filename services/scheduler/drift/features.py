"""The rows of a payload as numbers: a column for each feature."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_FEATURES", "Matrix", "Rows", "rows_of"]

MOST_FEATURES: Final = 32
"""Features of a model that are compared; the first."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """`values` has a row for each row of the payload, and a column for each name; NaN where a number is missing."""

    names: tuple[str, ...]
    values: Matrix


def rows_of(tensors: Sequence[Mapping[str, Any]]) -> Rows | None:
    """The rows of tensors in the form of the Open Inference Protocol; None where there are no elements to compare.

    The first dimension of a tensor counts its rows. Texts count by their characters. Tensors that have other numbers of
    rows than the first are left out, and so are rows that were cut.
    """
    names: list[str] = []
    columns: list[Matrix] = []
    rows: int | None = None
    for tensor in tensors:
        values = _matrix(tensor)
        if values is None or rows not in (None, len(values)) or not len(values):
            continue
        rows = len(values)
        columns.append(values)
        name = str(tensor.get("name"))[:100]
        names += [name] if values.shape[1] == 1 else [f"{name}[{index}]" for index in range(values.shape[1])]
    if not columns:
        return None
    joined = np.concatenate(columns, axis=1)[:, :MOST_FEATURES]
    return Rows(names=tuple(names[:MOST_FEATURES]), values=joined)


def _matrix(tensor: Mapping[str, Any]) -> Matrix | None:
    data, shape = tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list) or not data or not isinstance(shape, list):
        return None
    width = math.prod(shape[1:])
    if width < 1 or len(data) < width:
        return None
    whole = np.array(list(_numbers(data[: len(data) // width * width])), dtype=np.float64)
    return whole.reshape(-1, width)[:, :MOST_FEATURES]


def _numbers(data: Sequence[Any]) -> Iterator[float]:
    for element in data:
        if isinstance(element, str):
            yield float(len(element))
        elif isinstance(element, int | float) and math.isfinite(element):
            yield float(element)
        else:
            yield math.nan
