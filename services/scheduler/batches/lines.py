"""The lines of a batch's input: all checked before the first is answered, then read one by one.

A line is what OpenAI's Batch API takes, {"custom_id", "method": "POST", "url", "body"}, or only the body of a request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, Final

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from shared.contracts.jobs import Endpoint
from shared.contracts.problems import Problem, ProblemType

__all__ = ["MOST_LINES", "Line", "body_of", "scan"]

MOST_LINES: Final = 50_000
SHOWN_MISTAKES: Final = 100
LONGEST_ID: Final = 512
BOM: Final = b"\xef\xbb\xbf"
TOO_MANY: Final = "too_many_requests"
ENVELOPE: Final = frozenset({"method", "url", "body"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where a line lies in the input: its number from 1, and its bytes."""

    number: int
    custom_id: str
    start: int
    length: int


class _Mistake(Exception):  # noqa: N818  (it never leaves this module)
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(code, message, param)
        self.code = code
        self.message = message
        self.param = param


def scan(source: BufferedIOBase, endpoint: Endpoint) -> list[Line]:
    """All lines of an input. Blank ones count as lines and are left out.

    Raises Problem INVALID_REQUEST where the input cannot be used; its extra `errors` is a list of {line, code, message,
    param}, the first hundred, with OpenAI's codes.
    """
    lines: list[Line] = []
    seen: dict[str, int] = {}
    mistakes: list[dict[str, JsonValue]] = []
    for number, start, data in _numbered(source):
        try:
            custom_id = _checked(data, number, endpoint, seen)
        except _Mistake as mistake:
            mistakes.append({"line": number, "code": mistake.code, "message": mistake.message, "param": mistake.param})
            if len(mistakes) == SHOWN_MISTAKES or mistake.code == TOO_MANY:
                break
            continue
        seen[custom_id] = number
        lines.append(Line(number=number, custom_id=custom_id, start=start, length=len(data)))
    if not lines and not mistakes:
        mistakes.append({"line": None, "code": "empty_file", "message": "The file holds no request.", "param": None})
    if mistakes:
        raise _unusable(mistakes)
    return lines


def body_of(source: BufferedIOBase, line: Line) -> bytes:
    """The body of a line's request, as JSON."""
    source.seek(line.start)
    value: dict[str, Any] = from_json(source.read(line.length))
    return to_json(value["body"] if _is_full(value) else {k: v for k, v in value.items() if k != "custom_id"})


def _numbered(source: BufferedIOBase) -> Iterator[tuple[int, int, bytes]]:
    """Each line that is not blank: its number, where it starts, and its bytes."""
    start = 0
    source.seek(0)
    for number, data in enumerate(source, 1):
        skipped = len(BOM) if number == 1 and data.startswith(BOM) else 0
        if text := data[skipped:].rstrip():
            yield number, start + skipped, text
        start += len(data)


def _is_full(value: dict[str, Any]) -> bool:
    """Whether a line is more than the body of a request."""
    return not ENVELOPE.isdisjoint(value)


def _checked(data: bytes, number: int, endpoint: Endpoint, seen: Mapping[str, int]) -> str:
    """The custom_id of a line; `seen` are those of the lines before it."""
    if len(seen) == MOST_LINES:
        raise _Mistake(TOO_MANY, f"A batch has at most {MOST_LINES:,} requests.")
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _Mistake("invalid_json_line", f"This line is not parseable as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise _Mistake("invalid_json_line", "This line is no JSON object.")
    body = value
    if _is_full(value):
        body = _checked_envelope(value, endpoint)
    if body.get("stream"):
        raise _Mistake("invalid_value", "The answers of a batch come whole: leave out 'stream'.", "body.stream")
    custom_id = value.get("custom_id", f"line-{number}")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
        raise _Mistake("invalid_value", f"A custom_id is a text of 1 to {LONGEST_ID} characters.", "custom_id")
    if custom_id in seen:
        message = f"The custom_id {custom_id[:80]!r} is that of line {seen[custom_id]} as well."
        raise _Mistake("duplicate_custom_id", message, "custom_id")
    return custom_id


def _checked_envelope(value: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """The body of a line."""
    for name in ("custom_id", "method", "url", "body"):
        if value.get(name) is None:
            raise _Mistake("missing_required_parameter", f"The line has no '{name}'.", name)
    if value["method"] != "POST":
        raise _Mistake("invalid_method", "The method of a request is POST.", "method")
    if value["url"] != endpoint.value:
        raise _Mistake("invalid_url", f"The batch is for {endpoint.value}, not {str(value['url'])[:80]!r}.", "url")
    body = value["body"]
    if not isinstance(body, dict):
        raise _Mistake("invalid_type", "The body of a request is a JSON object.", "body")
    return body


def _unusable(mistakes: list[dict[str, JsonValue]]) -> Problem:
    first = mistakes[0]
    where = f"Line {first['line']}: " if first["line"] else ""
    more = f" ({len(mistakes) - 1:,} more mistakes follow.)" if len(mistakes) > 1 else ""
    return Problem(
        ProblemType.INVALID_REQUEST, f"The input cannot be used. {where}{first['message']}{more}", errors=mistakes
    )
