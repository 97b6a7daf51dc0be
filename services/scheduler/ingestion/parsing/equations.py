"""Equations of Office files in linear form (ECMA-376 part 1, 22.1; Unicode Technical Note 28)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["MATH", "linear_math"]

_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
MATH = f"{_M}oMath"
"""The tag of an equation."""

_DEEPEST = 100


def linear_math(element: Any, depth: int = 0) -> str:
    """An equation as a person types it: a fraction as a/b, a power as a^b, an index as a_b."""
    if depth > _DEEPEST:
        return "".join(text.text or "" for text in element.iter(f"{_M}t"))
    tag = element.tag
    if tag == f"{_M}t":
        return element.text or ""
    if tag in _FORMS:
        return _FORMS[tag](lambda name: _part(element, name, depth))
    if tag == f"{_M}nary":
        sign = element.find(f"{_M}naryPr/{_M}chr")
        shown = "\N{INTEGRAL}" if sign is None else sign.get(f"{_M}val", "")
        return f"{shown}{_scripts(lambda name: _part(element, name, depth))} {_part(element, 'e', depth)}"
    if tag == f"{_M}d":
        return f"({', '.join(linear_math(child, depth + 1) for child in element.iterchildren(f'{_M}e'))})"
    return "".join(linear_math(child, depth + 1) for child in element if isinstance(child.tag, str))


def _part(element: Any, name: str, depth: int) -> str:
    child = element.find(f"{_M}{name}")
    return "" if child is None else linear_math(child, depth + 1)


def _grouped(text: str) -> str:
    return text if len(text) < 2 or text.isalnum() or (text[0] == "(" and text[-1] == ")") else f"({text})"


def _scripts(part: Callable[[str], str]) -> str:
    below, above = part("sub"), part("sup")
    return (f"_{_grouped(below)}" if below else "") + (f"^{_grouped(above)}" if above else "")


_FORMS: dict[str, Callable[[Callable[[str], str]], str]] = {
    f"{_M}f": lambda part: f"{_grouped(part('num'))}/{_grouped(part('den'))}",
    f"{_M}sSup": lambda part: _grouped(part("e")) + _scripts(part),
    f"{_M}sSub": lambda part: _grouped(part("e")) + _scripts(part),
    f"{_M}sSubSup": lambda part: _grouped(part("e")) + _scripts(part),
    f"{_M}rad": lambda part: f"√{f'[{root}]' if (root := part('deg')) else ''}({part('e')})",
}
