"""The expressions in an exported program: which of them compute with sizes and do nothing else.

PyTorch evaluates them as Python, so each must be of a form that is known here.
"""

import ast
from typing import Final

__all__ = ["is_guard", "is_name", "is_symbolic"]

LONGEST: Final = 4_000
"""Characters of an expression."""

MOST_POWER: Final = 8

FUNCTIONS: Final = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "floor", "ceiling",
    "Abs", "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "And",
    "Or", "Not", "true", "false", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv",
    "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv",
    "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt",
    "RoundDecimal", "ToFloat", "Identity",
})  # fmt: skip
"""Those of SymPy, and of PyTorch for it, that sizes are written with."""

ASSUMPTIONS: Final = frozenset(
    {"positive", "integer", "nonnegative", "negative", "real", "finite", "zero", "nonzero", "precision"}
)

POWERS: Final = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})

OPERATORS: Final = (
    ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.And, ast.Or, ast.Not, ast.USub, ast.UAdd,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.Expression, ast.Load,
)  # fmt: skip


def is_name(text: object) -> bool:
    """Whether it is a plain identifier: none that Python gives a meaning of its own."""
    return isinstance(text, str) and text.isascii() and text.isidentifier() and not text.startswith("__")


def is_symbolic(text: object) -> bool:
    """Whether it is an expression of sizes, as SymPy's `srepr` writes it."""
    tree = _parsed(text)
    return tree is not None and _symbolic(tree.body)


def is_guard(text: object) -> bool:
    """Whether it is a condition on the sizes of inputs, such as `L['x'].size()[0] >= 2`."""
    tree = _parsed(text)
    return tree is not None and all(_in_guard(node) for node in ast.walk(tree))


def _parsed(text: object) -> ast.Expression | None:
    if not isinstance(text, str) or len(text) > LONGEST or not text.isascii():
        return None
    try:
        return ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _symbolic(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in FUNCTIONS:
            assumed = all(
                each.arg in ASSUMPTIONS
                and isinstance(each.value, ast.Constant)
                and not isinstance(each.value.value, str)
                for each in keywords
            )
            if name in ("Symbol", "Float"):
                return assumed and len(args) == 1 and _atom(args[0])
            return assumed and all(map(_symbolic, args)) and (name not in POWERS or _small(args[1:]))
        case ast.Name(id="true" | "false"):
            return True
        case ast.Constant(value=bool() | int() | float()):
            return True
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _symbolic(operand)
        case _:
            return False


def _atom(node: ast.expr) -> bool:
    """The name of a symbol, or the digits of a number."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return is_name(node.value) or node.value.replace(".", "", 1).replace("-", "", 2).replace("e", "", 1).isdigit()


def _small(exponents: list[ast.expr]) -> bool:
    """Whether a power is one that is computed at once."""
    for exponent in exponents:
        match exponent:
            case ast.Call(func=ast.Name(id="Integer"), args=[inner]):
                pass
            case inner:
                pass
        if isinstance(inner, ast.UnaryOp):
            inner = inner.operand
        if not isinstance(inner, ast.Constant) or not isinstance(inner.value, int) or inner.value > MOST_POWER:
            return False
    return True


def _in_guard(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="size" | "dim"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Name(id="max" | "min" | "Max" | "Min" | "Mod" | "FloorDiv"), keywords=[]):
            return True
        case ast.Attribute(attr="size" | "dim" | "shape"):
            return True
        case ast.Name(id=name):
            return name in ("L", "max", "min", "Max", "Min", "Mod", "FloorDiv")
        case ast.Constant(value=bool() | int() | float()):
            return True
        case ast.Constant(value=str(text)):
            return is_name(text)
        case ast.Subscript():
            return True
        case _:
            return isinstance(node, OPERATORS)
