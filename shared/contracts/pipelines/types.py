"""What an expression will be, as far as that can be known before it is evaluated."""

import ast
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from shared.contracts.pipelines.expressions import LITERALS, ExpressionError, Reference, reference

__all__ = ["Kind", "infer", "kind_of"]


class Kind(StrEnum):
    ANY = "anything"
    NUMBER = "a number"
    TEXT = "a text"
    BOOLEAN = "true or false"
    LIST = "a list"
    OBJECT = "an object"
    NULL = "null"

    def may_be(self, *others: "Kind") -> bool:
        return self is Kind.ANY or self in others


def kind_of(value: JsonValue) -> Kind:
    match value:
        case None:
            return Kind.NULL
        case bool():
            return Kind.BOOLEAN
        case int() | float():
            return Kind.NUMBER
        case str():
            return Kind.TEXT
        case list():
            return Kind.LIST
    return Kind.OBJECT


def infer(node: ast.expr, look_up: Callable[[Reference], Kind]) -> Kind:
    """The kind of an expression, where `look_up` knows the kinds of names and raises ExpressionError for others.

    Raises ExpressionError for what can never be evaluated, such as a comparison of a number with a text.
    """
    return _infer(node, look_up)


def _infer(node: ast.expr, look_up: Callable[[Reference], Kind]) -> Kind:
    def of(part: ast.expr) -> Kind:
        return _infer(part, look_up)

    if isinstance(node, ast.Name) and node.id in LITERALS:
        return kind_of(LITERALS[node.id])
    whole = reference(node)
    if whole is not None:
        return look_up(whole)
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as literal):
            return kind_of(literal)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            for part in parts:
                of(part)
            return Kind.LIST
        case ast.BoolOp(values=values):
            for part in values:
                _want(part, of(part), Kind.BOOLEAN)
            return Kind.BOOLEAN
        case ast.UnaryOp(op=operation, operand=operand):
            wanted = Kind.BOOLEAN if isinstance(operation, ast.Not) else Kind.NUMBER
            return _want(operand, of(operand), wanted)
        case ast.BinOp(left=left, op=operation, right=right):
            return _calculation(node, of(left), operation, of(right))
        case ast.Compare():
            return _comparison(node, of)
        case ast.IfExp(test=test, body=body, orelse=other):
            _want(test, of(test), Kind.BOOLEAN)
            one, two = of(body), of(other)
            return one if one is two else Kind.ANY
        case ast.Call(func=ast.Name(id=name), args=arguments):
            for argument in arguments:
                of(argument)
            return _RESULTS[name]
        case ast.Attribute(value=owner) | ast.Subscript(value=owner):
            of(owner)
    return Kind.ANY


def _comparison(node: ast.Compare, of: Callable[[ast.expr], Kind]) -> Kind:
    left = of(node.left)
    for operation, part in zip(node.ops, node.comparators, strict=True):
        right = of(part)
        if isinstance(operation, ast.In | ast.NotIn):
            _want(part, right, Kind.LIST, Kind.TEXT, Kind.OBJECT)
        elif not isinstance(operation, ast.Eq | ast.NotEq):
            _want(node.left, left, Kind.NUMBER, Kind.TEXT)
            _want(part, right, *([left] if left is not Kind.ANY else [Kind.NUMBER, Kind.TEXT]))
        elif Kind.ANY not in (left, right) and left is not right and Kind.NULL not in (left, right):
            raise ExpressionError(f"`{ast.unparse(node)}` compares {left} with {right}: it never holds")
        left = right
    return Kind.BOOLEAN


def _calculation(node: ast.expr, left: Kind, operation: ast.operator, right: Kind) -> Kind:
    if isinstance(operation, ast.Add):
        if Kind.ANY in (left, right):
            return right if left is Kind.ANY else left
        if left is right and left in (Kind.TEXT, Kind.LIST, Kind.NUMBER):
            return left
        raise ExpressionError(f"`{ast.unparse(node)}` adds {left} and {right}")
    _want(node, left, Kind.NUMBER)
    return _want(node, right, Kind.NUMBER)


def _want(node: ast.expr, found: Kind, *wanted: Kind) -> Kind:
    if not found.may_be(*wanted):
        raise ExpressionError(f"`{ast.unparse(node)}` is {found}, not {' or '.join(wanted)}")
    return found if found is not Kind.ANY or len(wanted) > 1 else wanted[0]


_RESULTS: Final[dict[str, Kind]] = {
    "len": Kind.NUMBER,
    "min": Kind.ANY,
    "max": Kind.ANY,
    "sum": Kind.NUMBER,
    "abs": Kind.NUMBER,
    "round": Kind.NUMBER,
    "text": Kind.TEXT,
}
