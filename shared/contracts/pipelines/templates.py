"""JSON with placeholders: texts in it may hold `${{ expression }}`."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import JsonValue

from shared.contracts.pipelines.expressions import Expression, Scope, as_text, parse

__all__ = ["Place", "placeholders", "replaced", "resolve", "unclosed"]

PLACEHOLDER: Final = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)

Place = tuple[str | int, ...]
"""Where in a JSON value: names of members and numbers of items."""


def unclosed(text: str) -> bool:
    """Whether a text begins a placeholder that does not end."""
    return "${{" in PLACEHOLDER.sub("", text)


def placeholders(template: JsonValue, at: Place = ()) -> Iterator[tuple[Place, str]]:
    """The text of each placeholder's expression, and where it is."""
    match template:
        case str():
            for found in PLACEHOLDER.finditer(template):
                yield at, found[1].strip()
        case list():
            for index, item in enumerate(template):
                yield from placeholders(item, (*at, index))
        case dict():
            for name, member in template.items():
                yield from placeholders(member, (*at, name))


def replaced(template: JsonValue, value: Callable[[Expression], JsonValue]) -> JsonValue:
    """The JSON with each placeholder replaced by its value.

    A placeholder that is a whole text keeps its value's type; inside a text it is written out. Raises ExpressionError.
    """
    match template:
        case str():
            whole = PLACEHOLDER.fullmatch(template.strip())
            if whole is not None:
                return value(parse(whole[1]))
            return PLACEHOLDER.sub(lambda found: as_text(value(parse(found[1]))), template)
        case list():
            return [replaced(item, value) for item in template]
        case dict():
            return {name: replaced(member, value) for name, member in template.items()}
    return template


def resolve(template: JsonValue, scope: Scope) -> JsonValue:
    """The JSON with its placeholders evaluated. Raises ExpressionError."""
    return replaced(template, lambda expression: expression.evaluate(scope))
