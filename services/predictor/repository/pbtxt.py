"""The text format of Protocol Buffers, as far as Triton's configurations use it.

A message is a mapping of each field's name to the list of its values, in order; a value is a text, a number, a bool,
the name of an enum's member, or a message.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["one", "parse", "several"]

Message = dict[str, list[Any]]

TOKEN: Final = re.compile(
    r"""
    (?P<space> [\s,;]+ | \#[^\n]* )
  | (?P<text> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
  | (?P<word> [A-Za-z_][A-Za-z0-9_.]* )
  | (?P<number> [-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]? )
  | (?P<mark> [{}\[\]<>:] )
    """,
    re.VERBOSE,
)
CLOSING: Final = {"{": "}", "<": ">"}
DEEPEST: Final = 32


def parse(text: str) -> Message:
    """Raises ValueError, which names the line."""
    return _Parser(text).message("", 0)


def several(message: Mapping[str, Any], field: str) -> list[Any]:
    """The values of a field."""
    values: list[Any] = message.get(field, [])
    return values


def one(message: Mapping[str, Any], field: str, default: Any) -> Any:
    """The last value of a field, as the format has it."""
    values = message.get(field)
    return values[-1] if values else default


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                raise self._error(f"{text[at]!r} is not expected", at)
            if match.lastgroup != "space":
                self._tokens.append((str(match.lastgroup), match.group(), at))
            at = match.end()
        self._at = 0

    def message(self, closing: str, depth: int) -> Message:
        """The fields up to the mark that closes the message, or up to the end."""
        if depth > DEEPEST:
            raise self._error("messages are nested too deeply", self._position)
        fields: Message = {}
        while True:
            kind, token = self._next()
            if token == closing and kind != "text":
                return fields
            if kind != "word":
                raise self._error(f"a field's name is expected, not {token or 'the end'!r}", self._position)
            colon = self._take(":")
            if not colon and self._peek()[1] not in ("{", "<", "["):
                raise self._error(f"':' is expected after {token!r}", self._position)
            fields.setdefault(token, []).extend(self._values(depth))

    def _values(self, depth: int) -> list[Any]:
        if not self._take("["):
            return [self._value(depth)]
        values: list[Any] = []
        while not self._take("]"):
            values.append(self._value(depth))
        return values

    def _value(self, depth: int) -> Any:
        kind, token = self._next()
        if kind == "text":
            parts = [_unquoted(token)]
            while self._peek()[0] == "text":
                parts.append(_unquoted(self._next()[1]))
            return "".join(parts)
        if kind == "number":
            number = token.rstrip("fF")
            return int(number) if re.fullmatch(r"[-+]?\d+", number) else float(number)
        if kind == "word":
            return {"true": True, "false": False}.get(token, token)
        if token in CLOSING:
            return self.message(CLOSING[token], depth + 1)
        raise self._error(f"a value is expected, not {token or 'the end'!r}", self._position)

    @property
    def _position(self) -> int:
        return self._tokens[min(self._at, len(self._tokens)) - 1][2] if self._tokens else 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at][:2] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, mark: str) -> bool:
        taken = self._peek() == ("mark", mark)
        self._at += taken
        return taken

    def _error(self, what: str, position: int) -> ValueError:
        line = self._text.count("\n", 0, position) + 1
        return ValueError(f"line {line}: {what}")


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), token[1:-1])
