"""JSON with placeholders: texts in it may hold `${{ expression }}`."""

from collections.abc import Callable, Iterator
from typing import Final

from pydantic import JsonValue

from shared.contracts.pipelines.expressions import Expression, ExpressionError, Scope, as_text, parse

__all__ = ["Place", "placeholders", "replaced", "resolve", "unclosed"]

BEGIN: Final = "${{"
END: Final = "}}"

LARGEST: Final = 1024 * 1024
"""Characters that the values of all placeholders of one JSON may have together: more fits into no message."""

Span = tuple[int, int]

Place = tuple[str | int, ...]
"""Where in a JSON value: names of members and numbers of items."""


def unclosed(text: str) -> bool:
    """Whether a text begins a placeholder that does not end."""
    return BEGIN in _filled(text, lambda _: "")


def placeholders(template: JsonValue, at: Place = ()) -> Iterator[tuple[Place, str]]:
    """The text of each placeholder's expression, and where it is."""
    match template:
        case str():
            for span in _spans(template):
                yield at, _inside(template, span).strip()
        case list():
            for index, item in enumerate(template):
                yield from placeholders(item, (*at, index))
        case dict():
            for name, member in template.items():
                yield from placeholders(member, (*at, name))


def replaced(template: JsonValue, value: Callable[[Expression], JsonValue]) -> JsonValue:
    """The JSON with each placeholder replaced by its value.

    A placeholder that is a whole text keeps its value's type; inside a text it is written out. Raises ExpressionError,
    also where the values have more than a megabyte together.
    """
    return _Filling(value).fill(template)


class _Filling:
    """Fills in placeholders as long as there is room for their values."""

    def __init__(self, value: Callable[[Expression], JsonValue]) -> None:
        self._value = value
        self._room = LARGEST

    def fill(self, template: JsonValue) -> JsonValue:
        match template:
            case str() if BEGIN in template:
                stripped = template.strip()
                if next(_spans(stripped), None) == (0, len(stripped)):
                    return self._evaluate(_inside(stripped, (0, len(stripped))))
                return _filled(template, lambda text: as_text(self._evaluate(text)))
            case list():
                return [self.fill(item) for item in template]
            case dict():
                return {name: self.fill(member) for name, member in template.items()}
        return template

    def _evaluate(self, text: str) -> JsonValue:
        value = self._value(parse(text))
        self._room = _left(value, self._room)
        if self._room < 0:
            raise ExpressionError(f"the values of the placeholders have more than {LARGEST:,} characters together")
        return value


def _left(value: JsonValue, room: int) -> int:
    """What is left of the room for so many characters; below 0 as soon as there is none."""
    waiting = [value]
    while waiting and room >= 0:
        match waiting.pop():
            case str() as text:
                room -= len(text) + 2
            case list() as items:
                room -= 2 + len(items)
                waiting += items[: room + 1] if room >= 0 else []
            case dict() as members:
                room -= 2 + sum(len(name) + 4 for name in members)
                waiting += members.values() if room >= 0 else ()
            case _:
                room -= 8
    return room


def _spans(text: str) -> Iterator[Span]:
    """Where the placeholders of a text begin and end. Linear in its length."""
    start = text.find(BEGIN)
    while start >= 0 and (end := text.find(END, start + len(BEGIN))) >= 0:
        yield start, end + len(END)
        start = text.find(BEGIN, end + len(END))


def _inside(text: str, span: Span) -> str:
    return text[span[0] + len(BEGIN) : span[1] - len(END)]


def _filled(text: str, write: Callable[[str], str]) -> str:
    """The text with each placeholder replaced by what is written for the text of its expression."""
    pieces, end = [], 0
    for span in _spans(text):
        pieces += [text[end : span[0]], write(_inside(text, span))]
        end = span[1]
    return "".join([*pieces, text[end:]])


def resolve(template: JsonValue, scope: Scope) -> JsonValue:
    """The JSON with its placeholders evaluated. Raises ExpressionError."""
    return replaced(template, lambda expression: expression.evaluate(scope))
