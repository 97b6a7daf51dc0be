"""Compiles a filter into a predicate for the table's SQL prefilter.

Nothing of the user's reaches the text except as an escaped literal: identifiers come from the known columns,
operators from this module. Negation is pushed down to the conditions, where a missing value is named
outright, so that SQL's third truth value never decides a result.
"""

from collections.abc import Mapping

from services.retriever.stores.columns import Column, column_of
from shared.contracts.filters import And, Compare, Comparison, Exists, Filter, In, Not, Or, Scalar

__all__ = ["compile_filter", "literal"]


_NEGATED = {
    Comparison.EQ: Comparison.NE,
    Comparison.NE: Comparison.EQ,
    Comparison.GT: Comparison.LTE,
    Comparison.GTE: Comparison.LT,
    Comparison.LT: Comparison.GTE,
    Comparison.LTE: Comparison.GT,
}
_SQL = {
    Comparison.EQ: "=",
    Comparison.NE: "<>",
    Comparison.GT: ">",
    Comparison.GTE: ">=",
    Comparison.LT: "<",
    Comparison.LTE: "<=",
}


def compile_filter(filter: Filter, columns: Mapping[str, Column]) -> str:  # noqa: A002  (the word of the API)
    """The predicate for the filter; `columns` maps each field's name to its column.

    Raises Problem(INVALID_FILTER) for a field that is not among the columns, or a value that does not fit one.
    """
    return _Compiler(columns).compile(filter, negated=False)


def literal(value: Scalar) -> str:
    """The value as an SQL literal; numbers as doubles, in the shortest form that reads back exactly."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(float(value))


class _Compiler:
    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def compile(self, node: Filter, *, negated: bool) -> str:
        match node:
            case Not(operand):
                return self.compile(operand, negated=not negated)
            case And(operands):
                return self._join(operands, "OR" if negated else "AND", negated)
            case Or(operands):
                return self._join(operands, "AND" if negated else "OR", negated)
            case Exists(field):
                return f"{self._identifier(field)} IS {'NULL' if negated else 'NOT NULL'}"
            case In(field, values):
                return self._in(field, values, negated)
            case Compare(field, comparison, value):
                return self._compare(field, comparison, value, negated)

    def _join(self, operands: tuple[Filter, ...], operator: str, negated: bool) -> str:
        if not operands:
            return "true" if operator == "AND" else "false"
        return "(" + f" {operator} ".join(self.compile(o, negated=negated) for o in operands) + ")"

    def _in(self, field: str, values: tuple[Scalar, ...], negated: bool) -> str:
        name = self._identifier(field, *values)
        if not values:
            return "true" if negated else "false"
        listed = ", ".join(literal(value) for value in values)
        return f"({name} IS NULL OR {name} NOT IN ({listed}))" if negated else f"{name} IN ({listed})"

    def _compare(self, field: str, comparison: Comparison, value: Scalar, negated: bool) -> str:
        name = self._identifier(field, value)
        # "Not equal" holds for a missing field, and so does the negation of everything else.
        absent_matches = negated != (comparison is Comparison.NE)
        operator = _SQL[_NEGATED[comparison] if negated else comparison]
        condition = f"{name} {operator} {literal(value)}"
        return f"({name} IS NULL OR {condition})" if absent_matches else condition

    def _identifier(self, field: str, *values: Scalar) -> str:
        return f"`{column_of(self._columns, field, *values).name}`"
