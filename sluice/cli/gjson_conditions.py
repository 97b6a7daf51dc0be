"""Conditions of KServe's graphs, which are paths in GJSON, as conditions of Sluice's pipelines.

KServe takes a case if its path finds anything in the body. A body that was sent is the `metadata` of the request here,
and a model's response its `outputs`.
"""

import json
import keyword
import re
from enum import StrEnum
from typing import Final

__all__ = ["ConditionError", "Source", "condition_of"]

NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]*"
QUERY: Final = re.compile(
    rf"(?P<list>\[@this\]|{NAME}(?:\.#\(name==?\"?(?P<tensor>[^\"()]+)\"?\)\.data)?)"
    rf"\.#\((?P<key>{NAME})?\s*(?:(?P<operator>==|!=|<=|>=|!%|=|<|>|%)\s*(?P<value>.*?))?\s*\)(?P<rest>.*)"
)
"""`instances.#(key==value)`: the first element of a list for which this holds."""

NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class ConditionError(Exception):
    """Why a condition cannot be one of Sluice's."""


class Source(StrEnum):
    """What a condition looks at: the request, the response of the model right before, or one of a model before that."""

    REQUEST = "request"
    RESPONSE = "response"
    EARLIER = "earlier"


def condition_of(path: str, source: Source) -> str:
    """An expression that holds where the path finds something. Raises ConditionError."""
    if source is Source.EARLIER:
        raise ConditionError("it looks at the response of a model before the last one, and only the last is known here")
    path = path.strip()
    if re.fullmatch(NAME, path):
        return f"{_written(path)} in {_holder(source)}"
    found = QUERY.fullmatch(path)
    if found is None:
        raise ConditionError("only a name, or a query such as instances.#(key==value), has a counterpart")
    if found["rest"]:
        raise ConditionError(f"what follows the query ({found['rest']}) has no counterpart")
    key = found["tensor"] or found["key"]
    if found["tensor"] and (found["key"] or not found["operator"]):
        raise ConditionError("the elements of a tensor have no members")
    if found["tensor"] and source is Source.REQUEST:
        raise ConditionError("of a request only its metadata are known here, and no tensors")
    if not key:
        raise ConditionError("it compares elements without a name: name the output of the model that they are of")
    if not found["operator"]:
        return f"{_written(key)} in {_holder(source)}"
    operator = "==" if found["operator"] == "=" else found["operator"]
    literal = _literal(found["value"] or "")
    compare = _metadata if source is Source.REQUEST else _elements
    return f"{_written(key)} in {_holder(source)} and {compare(_member(_holder(source), key), operator, literal)}"


def _metadata(member: str, operator: str, value: str | float | bool) -> str:
    """One value."""
    if operator in ("%", "!%"):
        text, contains = _pattern(value)
        if contains:
            return f"{_written(text)} {'in' if operator == '%' else 'not in'} {member}"
        operator, value = ("==" if operator == "%" else "!="), text
    return f"{member} {operator} {_written(value)}"


def _elements(member: str, operator: str, value: str | float | bool) -> str:
    """Any of several values."""
    if operator == "==":
        return f"{_written(value)} in {member}"
    if isinstance(value, bool | str):
        raise ConditionError(f"{operator} of texts has no counterpart for outputs, which may have many elements")
    if operator in (">", ">="):
        return f"len({member}) > 0 and max({member}) {operator} {_written(value)}"
    if operator in ("<", "<="):
        return f"len({member}) > 0 and min({member}) {operator} {_written(value)}"
    return f"len({member}) > 0 and (min({member}) != {_written(value)} or max({member}) != {_written(value)})"


def _pattern(value: str | float | bool) -> tuple[str, bool]:
    """The text of a pattern, and whether it may stand anywhere."""
    pattern = value if isinstance(value, str) else _written(value)
    contains = len(pattern) > 2 and pattern.startswith("*") and pattern.endswith("*")
    text = pattern[1:-1] if contains else pattern
    if re.search(r"[*?\\]", text):
        raise ConditionError(f"of patterns only *text* has a counterpart, and no {pattern!r}")
    return text, contains


def _literal(value: str) -> str | float | bool:
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            quoted = json.loads(value)
        except ValueError:
            raise ConditionError(f"{value} is no text of JSON") from None
        return str(quoted)
    if value in ("true", "false"):
        return value == "true"
    if NUMBER.fullmatch(value):
        return json.loads(value)  # type: ignore[no-any-return]
    if not value or re.search(r"[()\"#|]", value):
        raise ConditionError(f"{value or 'nothing'} is no value to compare with")
    return value


def _written(value: str | float | bool) -> str:
    # A text of JSON is one of the language of conditions too, and YAML leaves its quotes alone.
    return json.dumps(value, ensure_ascii=False)


def _holder(source: Source) -> str:
    return "metadata" if source is Source.REQUEST else "outputs"


def _member(owner: str, key: str) -> str:
    plain = key.isidentifier() and not keyword.iskeyword(key) and not key.startswith("_")
    return f"{owner}.{key}" if plain else f"{owner}[{_written(key)}]"
