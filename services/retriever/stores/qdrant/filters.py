"""Compiles a filter into one of Qdrant's, which the payload indices carry out.

Qdrant has no third truth value: what is missing meets no condition, and so the negation of each. It orders numbers, but
not strings: where strings are to be ordered, the values that the field has are read and those that fit are named.
"""

import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from qdrant_client import models

from services.retriever.stores.columns import Column, column_of
from services.retriever.stores.qdrant.layout import payload_of
from services.retriever.stores.qdrant.view import equals, one_of
from shared.contracts.filters import And, Compare, Comparison, Exists, Filter, In, Not, Or, Scalar

__all__ = ["compile_filter"]

NOTHING: Final = models.HasIdCondition(has_id=[])

_ORDERS: Final[Mapping[Comparison, Callable[[bytes, bytes], bool]]] = {
    Comparison.GT: operator.gt,
    Comparison.GTE: operator.ge,
    Comparison.LT: operator.lt,
    Comparison.LTE: operator.le,
}

Values = Callable[[Column], Awaitable[Sequence[str]]]
"""The strings that a column has."""


async def compile_filter(
    filter: Filter,  # noqa: A002  (the word of the API)
    columns: Mapping[str, Column],
    values: Values,
) -> models.Condition:
    """Raises Problem(INVALID_FILTER) for a field that is not among the columns, or a value that does not fit one."""
    return await _Compiler(columns, values).compile(filter)


class _Compiler:
    def __init__(self, columns: Mapping[str, Column], values: Values) -> None:
        self._columns = columns
        self._values = values

    async def compile(self, node: Filter) -> models.Condition:
        match node:
            case Not(operand):
                return _not(await self.compile(operand))
            case And(operands):
                return _all([await self.compile(one) for one in operands])
            case Or(operands):
                return _any([await self.compile(one) for one in operands])
            case Exists(field):
                empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=self._column(field).name))
                return _not(empty)
            case In(field, wanted):
                column = self._column(field, *wanted)
                strings = [one for one in wanted if isinstance(one, str)]
                return _one_of(column, strings) if strings else _any([_equals(column, one) for one in wanted])
            case Compare(field, comparison, value):
                return await self._compare(self._column(field, value), comparison, value)

    async def _compare(self, column: Column, comparison: Comparison, value: Scalar) -> models.Condition:
        if comparison is Comparison.EQ:
            return _equals(column, value)
        if comparison is Comparison.NE:
            return _not(_equals(column, value))
        if isinstance(value, str):
            fits = _ORDERS[comparison]
            return _one_of(column, [one for one in await self._values(column) if fits(_ordered(one), _ordered(value))])
        bounds = {comparison.value.removeprefix("$"): float(value)}
        return models.FieldCondition(key=column.name, range=models.Range(**bounds))

    def _column(self, field: str, *values: Scalar) -> Column:
        return column_of(self._columns, field, *values)


def _ordered(text: str) -> bytes:
    """By code points, as the bytes of UTF-8 are."""
    return text.encode("utf-8", "replace")


def _equals(column: Column, value: Scalar) -> models.Condition:
    held = payload_of(value)
    if isinstance(held, float):
        return models.FieldCondition(key=column.name, range=models.Range(gte=held, lte=held))
    return equals(column.name, held)


def _one_of(column: Column, values: Sequence[str]) -> models.Condition:
    return one_of(column.name, list(values)) if values else NOTHING


def _not(condition: models.Condition) -> models.Condition:
    return models.Filter(must_not=[condition])


def _all(conditions: list[models.Condition]) -> models.Condition:
    return models.Filter(must=conditions) if conditions else _not(NOTHING)


def _any(conditions: list[models.Condition]) -> models.Condition:
    # Without any, Qdrant would take it for no condition.
    return models.Filter(should=conditions) if conditions else NOTHING
