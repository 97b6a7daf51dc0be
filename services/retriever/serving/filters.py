"""Which rows of a segment a filter keeps, by Arrow's compute functions; a missing value is no third truth value."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.retriever.serving.segment import Segment
from services.retriever.stores.columns import Column
from shared.contracts.filters import And, Compare, Comparison, Exists, Filter, In, Not, Or, Scalar

__all__ = ["filter_mask"]

Mask = NDArray[np.bool_]

_COMPARE: Final[Mapping[Comparison, Callable[[pa.Array, pa.Scalar], pa.Array]]] = {
    Comparison.EQ: pc.equal,
    Comparison.NE: pc.not_equal,
    Comparison.GT: pc.greater,
    Comparison.GTE: pc.greater_equal,
    Comparison.LT: pc.less,
    Comparison.LTE: pc.less_equal,
}


def filter_mask(segment: Segment, filter: Filter, columns: Mapping[str, Column]) -> Mask:  # noqa: A002  (the word of the API)
    """The filter fits the columns, as `compile_filter` checks. The mask is kept for the next search."""
    key = repr(filter)
    mask = segment.mask(key)
    if mask is None:
        mask = _evaluate(segment, filter, columns)
        segment.keep_mask(key, mask)
    return mask


def _evaluate(segment: Segment, node: Filter, columns: Mapping[str, Column]) -> Mask:
    match node:
        case Not(operand):
            return ~_evaluate(segment, operand, columns)
        case And(operands):
            mask = np.ones(len(segment), np.bool_)
            for operand in operands:
                mask &= _evaluate(segment, operand, columns)
            return mask
        case Or(operands):
            mask = np.zeros(len(segment), np.bool_)
            for operand in operands:
                mask |= _evaluate(segment, operand, columns)
            return mask
        case Exists(field):
            values = _values(segment, columns[field])
            return _numpy(values.is_valid()) if values is not None else np.zeros(len(segment), np.bool_)
        case In(field, wanted):
            values = _values(segment, columns[field])
            if values is None or not wanted:
                return np.zeros(len(segment), np.bool_)
            return _numpy(pc.is_in(values, pa.array([_typed(one) for one in wanted], values.type)))
        case Compare(field, comparison, value):
            absent = comparison is Comparison.NE
            values = _values(segment, columns[field])
            if values is None:
                return np.full(len(segment), absent)
            compared = _COMPARE[comparison](values, pa.scalar(_typed(value), values.type))
            return _numpy(pc.fill_null(compared, absent))


def _values(segment: Segment, column: Column) -> pa.Array | None:
    """None where the segment was written before the table had the column."""
    return segment.columns.get(column.name)


def _typed(value: Scalar) -> Scalar:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _numpy(mask: pa.Array) -> Mask:
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=np.bool_)
