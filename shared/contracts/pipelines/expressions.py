"""A small expression language for conditions and placeholders: `evaluate.recall_at_5 >= parameters.minimum`.

It is read by Python's own parser and evaluated by a walker of ours that knows comparisons, `and`, `or`, `not`, `in`,
arithmetic, `a if b else c`, members, subscripts, lists, literals and a few functions, and nothing else. Texts, depth,
numbers and strings are bounded, so that an expression of a stranger costs no more than it says.
"""

import ast
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from shared.contracts.wire import is_unicode

__all__ = [
    "FUNCTIONS",
    "LITERALS",
    "Expression",
    "ExpressionError",
    "Reference",
    "Scope",
    "as_text",
    "parse",
    "reference",
]

LONGEST_TEXT: Final = 1000
DEEPEST: Final = 24
LONGEST_STRING: Final = 64 * 1024
LARGEST_INTEGER: Final = 2**53
MOST_DIGITS: Final = 400

LITERALS: Final[Mapping[str, JsonValue]] = {"true": True, "false": False, "null": None}

Scope = Mapping[str, Any]
"""Names and their values: JSON values, and mappings of names."""

Reference = tuple[str, ...]
"""A name and its members as far as they are written out: `steps.evaluate.outputs.mrr`, `items['a']`."""


class ExpressionError(Exception):
    """What is wrong with an expression, in words for its author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A parsed expression. `references` are the names that it reads."""

    text: str
    node: ast.expr
    references: tuple[Reference, ...]

    def evaluate(self, scope: Scope) -> JsonValue:
        """Raises ExpressionError, such as for a name that is not there or a comparison of a number with a text."""
        value: JsonValue = _evaluate(self.node, scope)
        return value


def parse(text: str) -> Expression:
    """Raises ExpressionError for what is no expression, or none of this language. It may go over several lines."""
    text = text.strip()
    if len(text) > LONGEST_TEXT:
        raise ExpressionError(f"an expression has at most {LONGEST_TEXT} characters")
    try:
        node = ast.parse(f"({text}\n)" if "\n" in text else text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"this is no expression: `{text[:80]}`") from None
    try:
        _check(node, 0)
    except RecursionError:  # of what is not allowed anyway, and is written out to say so
        raise ExpressionError("the expression is nested too deeply") from None
    references = dict.fromkeys(_references(node))
    return Expression(text=text, node=node, references=tuple(references))


def reference(node: ast.expr) -> Reference | None:
    """The reference that a node is as a whole; None if it is none."""
    match node:
        case ast.Name(id=name):
            return None if name in LITERALS else (name,)
        case ast.Attribute(value=value, attr=member):
            owner = reference(value)
            return owner and (*owner, member)
        case ast.Subscript(value=value, slice=ast.Constant(value=str(member))):
            owner = reference(value)
            return owner and (*owner, member)
    return None


def as_text(value: JsonValue) -> str:
    """A value inside a text: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check(node: ast.AST, depth: int) -> None:
    if depth > DEEPEST:
        raise ExpressionError("the expression is nested too deeply")
    if isinstance(node, ast.operator | ast.unaryop | ast.cmpop) and not isinstance(node, _KNOWN):
        raise ExpressionError(f"the operator {type(node).__name__} is not known here")
    if not isinstance(node, _KNOWN):
        raise ExpressionError(f"{_written(node)} is not allowed here")
    match node:
        case ast.Constant(value=value) if not isinstance(value, str | int | float | bool | None):
            raise ExpressionError(f"{value!r} is not allowed here")
        case ast.Constant(value=str(value)) if not is_unicode(value):
            # An escape such as `\ud800` makes half a character.
            raise ExpressionError(f"{value[:80]!r} is not valid Unicode")
        case ast.Call(func=function, keywords=keywords):
            if not isinstance(function, ast.Name) or function.id not in FUNCTIONS or keywords:
                raise ExpressionError(f"{_written(node)}: the functions are {', '.join(FUNCTIONS)}")
        case ast.Attribute(attr=member) if member.startswith("_"):
            raise ExpressionError(f"{_written(node)} is not allowed here")
    children = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    for child in children:
        _check(child, depth + 1)


def _references(node: ast.AST) -> list[Reference]:
    whole = reference(node) if isinstance(node, ast.expr) else None
    if whole is not None:
        return [whole]
    children = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    return [found for child in children for found in _references(child)]


def _evaluate(node: ast.expr, scope: Scope) -> Any:
    match node:
        case ast.Constant(value=value):
            return _bounded(value)
        case ast.Name(id=name):
            return LITERALS[name] if name in LITERALS else _member(scope, name, node)
        case ast.Attribute(value=owner, attr=member):
            return _member(_evaluate(owner, scope), member, node)
        case ast.Subscript(value=owner, slice=key):
            return _item(_evaluate(owner, scope), _evaluate(key, scope), node)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_evaluate(element, scope) for element in elements]
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_truth(value, scope) for value in values)
        case ast.BoolOp(values=values):
            return any(_truth(value, scope) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(operand, scope)
        case ast.UnaryOp(op=operation, operand=operand):
            number = _number(_evaluate(operand, scope), operand)
            return -number if isinstance(operation, ast.USub) else number
        case ast.BinOp(left=left, op=operation, right=right):
            return _calculate(_evaluate(left, scope), operation, _evaluate(right, scope), node)
        case ast.Compare():
            return _compare(node, scope)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _evaluate(body if _truth(test, scope) else other, scope)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, [_evaluate(argument, scope) for argument in arguments], node)
    raise ExpressionError(f"{_written(node)} is not allowed here")


def _member(owner: Any, name: str, node: ast.expr) -> Any:
    if not isinstance(owner, Mapping):
        raise ExpressionError(f"{_written(node)}: {_kind(owner)} has no members")
    try:
        return owner[name]
    except KeyError:
        known = ", ".join(sorted(map(str, owner))[:12]) or "none"
        raise ExpressionError(f"there is no {_written(node)}; known here: {known}") from None


def _item(owner: Any, key: Any, node: ast.expr) -> Any:
    if isinstance(owner, Mapping):
        return _member(owner, str(key), node)
    if not isinstance(owner, list | str) or isinstance(key, bool) or not isinstance(key, int):
        raise ExpressionError(f"{_written(node)}: {_kind(owner)} has no item {key!r}")
    if not -len(owner) <= key < len(owner):
        raise ExpressionError(f"{_written(node)}: there are only {len(owner)} items")
    return owner[key]


def _truth(node: ast.expr, scope: Scope) -> bool:
    value = _evaluate(node, scope)
    if not isinstance(value, bool):
        raise ExpressionError(f"{_written(node)} is {_kind(value)}, not true or false")
    return value


def _compare(node: ast.Compare, scope: Scope) -> bool:
    left = _evaluate(node.left, scope)
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(right_node, scope)
        if not _holds(left, operation, right, node):
            return False
        left = right
    return True


def _holds(left: Any, operation: ast.cmpop, right: Any, node: ast.expr) -> bool:
    match operation:
        case ast.Eq():
            return bool(left == right)
        case ast.NotEq():
            return bool(left != right)
        case ast.In() | ast.NotIn():
            if not isinstance(right, list | str | Mapping) or (isinstance(right, str) and not isinstance(left, str)):
                raise ExpressionError(f"{_written(node)}: nothing can be in {_kind(right)}")
            # Only a text can be the name of a member; others may not even be looked up.
            found = left in right if isinstance(left, str) or not isinstance(right, Mapping) else False
            return found is isinstance(operation, ast.In)
    if not (_both(left, right, (int, float)) or _both(left, right, str)):
        raise ExpressionError(f"{_written(node)} compares {_kind(left)} with {_kind(right)}")
    order: Callable[[Any, Any], bool] = _ORDER[type(operation)]
    return order(left, right)


def _calculate(left: Any, operation: ast.operator, right: Any, node: ast.expr) -> Any:
    if isinstance(operation, ast.Add) and (_both(left, right, str) or _both(left, right, list)):
        return _bounded(left + right)
    a, b = _number(left, node), _number(right, node)
    try:
        result: int | float = _ARITHMETIC[type(operation)](a, b)
    except ZeroDivisionError:
        raise ExpressionError(f"{_written(node)} divides by zero") from None
    except OverflowError:
        raise ExpressionError("the number is too large") from None
    return _bounded(result)


def _call(name: str, arguments: list[Any], node: ast.expr) -> Any:
    try:
        return _bounded(FUNCTIONS[name](*arguments))
    except (TypeError, ValueError, OverflowError):
        given = ", ".join(_kind(argument) for argument in arguments) or "nothing"
        raise ExpressionError(f"{_written(node)}: {name} cannot take {given}") from None


def _bounded(value: Any) -> Any:
    if isinstance(value, str | list) and len(value) > LONGEST_STRING:
        raise ExpressionError("the text or list is too long")
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ExpressionError("the number is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("the number is too large")
    return value


def _number(value: Any, node: ast.expr) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExpressionError(f"{_written(node)} wants a number, not {_kind(value)}")
    _bounded(value)  # parameters may hold integers of any length
    return value


def _both(left: Any, right: Any, kind: Any) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in (left, right))


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"


def _written(node: ast.AST) -> str:
    text = ast.unparse(node)
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"


def _round(number: Any, digits: int | None = None) -> Any:
    if digits is not None and abs(digits) > MOST_DIGITS:
        raise ValueError("an integer is rounded by way of 10 to the power of so many digits")
    return round(number, digits)


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "len": len,
    "min": min,
    "max": max,
    "sum": sum,
    "abs": abs,
    "round": _round,
    "text": as_text,
}

_ORDER: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}

_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}

_KNOWN: Final = (
    ast.Attribute,
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.IfExp,
    ast.List,
    ast.Name,
    ast.Subscript,
    ast.Tuple,
    ast.UnaryOp,
    ast.Not,
    ast.USub,
    ast.UAdd,
    ast.And,
    ast.Or,
    ast.Load,
    ast.Eq,
    ast.NotEq,
    ast.In,
    ast.NotIn,
    *_ORDER,
    *_ARITHMETIC,
)
