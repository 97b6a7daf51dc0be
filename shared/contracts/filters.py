"""The metadata filter language: JSON in the style of MongoDB, parsed into a small syntax tree.

    {"year": {"$gte": 2020}, "lang": "en"}
    {"$or": [{"lang": {"$in": ["en", "de"]}}, {"reviewed": {"$exists": false}}]}

Operators on a field: $eq $ne $gt $gte $lt $lte $in $nin $exists $not. Logical: $and $or $not. Several fields
or operators in one object must all hold. `$ne`, `$nin` and `$not` also match documents that lack the field.
What every document has may be filtered as well: see `RESERVED_FIELDS`.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from pydantic import JsonValue

from shared.contracts.envelope import Scalar
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.wire import is_unicode

__all__ = [
    "RESERVED_FIELDS",
    "And",
    "Comparison",
    "Compare",
    "Exists",
    "Filter",
    "In",
    "Not",
    "Or",
    "Scalar",
    "guarded",
    "parse",
    "unguarded",
    "validate_metadata",
]

RESERVED_FIELDS = frozenset({"document", "document_id", "position"})
"""Fields that every chunk has: its document's name and id, and its place in it from 0. No metadata key may be one."""

GUARD = "$permitted"
"""Around the whole filter of a stop: no operator of the language, which `parse` refuses."""

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_LIST = 256
MAX_STRING = 1_000
MAX_KEYS = 32
MAX_INTEGER = 2**53

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NAME_RULE = "use 1 to 64 letters, digits and underscores, not starting with a digit"


class Comparison(Enum):
    EQ = "$eq"
    NE = "$ne"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"


@dataclass(frozen=True, slots=True)
class Compare:
    """The field compares so with the value. A missing field matches NE and nothing else."""

    field: str
    comparison: Comparison
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """The field equals one of the values; with no values nothing matches."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is present."""

    field: str


@dataclass(frozen=True, slots=True)
class And:
    """All operands hold; with no operands everything matches."""

    operands: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Matches exactly what the operand does not: there is no third truth value for missing fields."""

    operand: "Filter"


Filter: TypeAlias = And | Or | Not | Compare | In | Exists

_COMPARISONS = {comparison.value: comparison for comparison in Comparison}
_LOGICAL = ("$and", "$or", "$not")
_ON_FIELDS = (*_COMPARISONS, "$in", "$nin", "$exists", "$not")
_ORDERED = (Comparison.GT, Comparison.GTE, Comparison.LT, Comparison.LTE)


def parse(data: object) -> Filter:
    """Parse decoded JSON; `{}` matches everything.

    Raises Problem(INVALID_FILTER), whose detail names the offending path and says what to write instead and
    whose extra `path` is that path.
    """
    return _Parser().filter(data, "filter", depth=1)


def guarded(data: JsonValue) -> JsonValue:
    """A filter for a collection with documents that not everybody may see: one which a retriever that knows no lists
    of principals refuses, so that it does not answer with what it should not."""
    return {GUARD: data or {}}


def unguarded(data: JsonValue) -> JsonValue:
    """The filter in a guarded one, or the one that is given."""
    return data[GUARD] if isinstance(data, dict) and data.keys() == {GUARD} else data


def validate_metadata(data: object) -> dict[str, Scalar]:
    """The metadata of one document, checked: at most 32 keys, scalar values.

    Raises Problem(INVALID_METADATA) with the extra `path`.
    """
    kind = ProblemType.INVALID_METADATA
    if not isinstance(data, Mapping):
        raise _problem(kind, "metadata", 'must be a JSON object such as {"lang": "en"}')
    if len(data) > MAX_KEYS:
        raise _problem(kind, "metadata", f"has {len(data)} keys; at most {MAX_KEYS} are allowed")
    metadata: dict[str, Scalar] = {}
    for key, value in data.items():
        name = _name(kind, key, "metadata")
        path = f"metadata.{name}"
        if name in RESERVED_FIELDS:
            raise _problem(kind, path, "is a name that every document has already; choose another key")
        if value is None:
            raise _problem(kind, path, "is null; leave the key out instead")
        metadata[name] = _scalar(kind, value, path)
    return metadata


class _Parser:
    """One parse; counts the conditions as it meets them."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, data: object, path: str, *, depth: int) -> Filter:
        if not isinstance(data, Mapping):
            raise _invalid(path, 'must be an object such as {"year": {"$gte": 2020}}')
        if depth > MAX_DEPTH:
            raise _invalid(path, f"is nested deeper than {MAX_DEPTH} levels; flatten it")
        if depth > 1 and not data:
            raise _invalid(path, "is empty; name a field in it or leave it out")
        parts: list[Filter] = []
        for key, value in data.items():
            if isinstance(key, str) and key.startswith("$"):
                parts.append(self._logical(key, value, path, depth))
            else:
                name = _name(ProblemType.INVALID_FILTER, key, path)
                parts.append(self._field(name, value, f"{path}.{name}", depth))
        return _all(parts)

    def _logical(self, operator: str, value: object, path: str, depth: int) -> Filter:
        if operator not in _LOGICAL:
            hint = f'write {{"<field>": {{"{operator}": ...}}}}' if operator in _ON_FIELDS else _one_of(_LOGICAL)
            raise _invalid(path, f"has {_show(operator)} where a field or a logical operator goes; {hint}")
        path = f"{path}.{operator}"
        if operator == "$not":
            return Not(self.filter(value, path, depth=depth + 1))
        if not isinstance(value, list) or not value:
            raise _invalid(path, 'must be a list of filters such as [{"lang": "en"}, {"lang": "de"}]')
        operands = tuple(self.filter(item, f"{path}[{i}]", depth=depth + 1) for i, item in enumerate(value))
        return And(operands) if operator == "$and" else Or(operands)

    def _field(self, field: str, value: object, path: str, depth: int) -> Filter:
        if not isinstance(value, Mapping):
            return self._compare(field, Comparison.EQ, value, path)
        if depth > MAX_DEPTH:
            raise _invalid(path, f"is nested deeper than {MAX_DEPTH} levels; flatten it")
        if not value:
            raise _invalid(path, f"is empty; give an operator: {_one_of(_ON_FIELDS)}")
        return _all([self._operator(field, key, operand, path, depth) for key, operand in value.items()])

    def _operator(self, field: str, key: object, value: object, path: str, depth: int) -> Filter:
        if not isinstance(key, str) or key not in _ON_FIELDS:
            raise _invalid(path, f"has {_show(key)} where an operator goes; {_one_of(_ON_FIELDS)}")
        path = f"{path}.{key}"
        if key == "$not":
            if not isinstance(value, Mapping):
                raise _invalid(path, 'must be an object such as {"$gt": 5}; for a value use $ne')
            return Not(self._field(field, value, path, depth + 1))
        if key in ("$in", "$nin"):
            one_of = In(field, self._values(value, path))
            return one_of if key == "$in" else Not(one_of)
        if key == "$exists":
            return self._exists(field, value, path)
        return self._compare(field, _COMPARISONS[key], value, path)

    def _compare(self, field: str, comparison: Comparison, value: object, path: str) -> Filter:
        self._count(path)
        if value is None:
            raise _invalid(path, f'compares with null; write {{"{field}": {{"$exists": false}}}}')
        if isinstance(value, list):
            raise _invalid(path, f'compares with a list; write {{"{field}": {{"$in": [...]}}}}')
        scalar = _scalar(ProblemType.INVALID_FILTER, value, path)
        if isinstance(scalar, bool) and comparison in _ORDERED:
            raise _invalid(path, "orders true and false; use $eq or $ne")
        return Compare(field, comparison, scalar)

    def _exists(self, field: str, value: object, path: str) -> Filter:
        self._count(path)
        if not isinstance(value, bool):
            raise _invalid(path, "must be true or false")
        return Exists(field) if value else Not(Exists(field))

    def _values(self, value: object, path: str) -> tuple[Scalar, ...]:
        self._count(path)
        if not isinstance(value, list):
            raise _invalid(path, 'must be a list such as ["en", "de"]')
        if len(value) > MAX_LIST:
            raise _invalid(path, f"lists {len(value)} values; at most {MAX_LIST} are allowed")
        return tuple(_scalar(ProblemType.INVALID_FILTER, item, f"{path}[{i}]") for i, item in enumerate(value))

    def _count(self, path: str) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise _invalid(path, f"is one condition too many; at most {MAX_CONDITIONS} are allowed")


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _name(kind: ProblemType, key: object, path: str) -> str:
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        raise _problem(kind, path, f"has the field name {_show(key)}; {_NAME_RULE}")
    return key


def _scalar(kind: ProblemType, value: object, path: str) -> Scalar:
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            raise _problem(kind, path, f"is {len(value)} characters long; at most {MAX_STRING} are allowed")
        if not is_unicode(value):
            raise _problem(kind, path, "holds a lone surrogate, which is not a Unicode character; remove it")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _problem(kind, path, "is not a finite number; JSON has no infinity and no NaN")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise _problem(kind, path, "is an integer beyond ±2^53; write it as a string")
    else:
        raise _problem(kind, path, f"is {_kind_of(value)}; use a string, a number, true or false")
    return value


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list) else "not a JSON value"


def _one_of(operators: tuple[str, ...]) -> str:
    return "one of " + " ".join(operators)


def _show(key: object) -> str:
    """A key as a message shows it: quoted, printable, bounded."""
    if not isinstance(key, str):
        return "that is not a string"
    return json.dumps(key if len(key) <= 80 else key[:77] + "...")


def _invalid(path: str, what: str) -> Problem:
    return _problem(ProblemType.INVALID_FILTER, path, what)


def _problem(kind: ProblemType, path: str, what: str) -> Problem:
    return Problem(kind, f"{path} {what}.", path=path)
