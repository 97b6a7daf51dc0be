"""The fields of a collection that can be filtered, and their types. In a collection each metadata key has one type."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from shared.contracts.filters import Scalar
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Column", "ColumnType", "column_of"]


class ColumnType(Enum):
    """What a column holds, in the words of an error message."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"

    @classmethod
    def of(cls, value: Scalar) -> "ColumnType":
        if isinstance(value, bool):
            return cls.BOOLEAN
        return cls.STRING if isinstance(value, str) else cls.NUMBER


@dataclass(frozen=True, slots=True)
class Column:
    """A filterable column: its name in the store, which can be trusted, and its type."""

    name: str
    type: ColumnType


def column_of(columns: Mapping[str, Column], field: str, *values: Scalar) -> Column:
    """The column of a field that is compared with these values.

    Raises Problem(INVALID_FILTER) where there is no such field, or a value does not fit it.
    """
    column = columns.get(field)
    if column is None:
        known = ", ".join(f"{name} ({c.type.value})" for name, c in sorted(columns.items()))
        raise Problem(
            ProblemType.INVALID_FILTER,
            f"No document in this collection has the field {field}. Known fields: {known}.",
            field=field,
        )
    for value in values:
        given = ColumnType.of(value)
        if given is not column.type:
            raise Problem(
                ProblemType.INVALID_FILTER,
                f"The field {field} holds a {column.type.value} but is compared with a {given.value}.",
                field=field,
            )
    return column
