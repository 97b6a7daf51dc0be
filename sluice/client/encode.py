"""Values that a request can hold: JSON has no NaN and no infinity, UTF-8 has no lone surrogates."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from sluice.api.problems import ProblemDetails
from sluice.client.errors import SluiceError

__all__ = ["check_header", "check_text", "json_bytes"]


def json_bytes(body: Any) -> bytes:
    """A body as JSON in UTF-8. Raises a `SluiceError` that names the first value which JSON cannot hold."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise _refused(next(_wrong(body, ""), "the body cannot be written as JSON")) from None


def check_text(text: str) -> None:
    """Raises a `SluiceError` for text that UTF-8 cannot hold."""
    if not _is_utf8(text):
        raise _refused(f"{text!r} is not valid UTF-8")


def check_header(name: str, value: str) -> None:
    """Raises a `SluiceError` for a value that is not printable ASCII. The value is secret, so it is not shown."""
    if not (value.isascii() and value.isprintable()):
        raise _refused(f"{name} has characters that no header can hold")


def _wrong(value: Any, path: str) -> Iterator[str]:
    """What JSON cannot hold, each with its path."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if isinstance(name, str) and not _is_utf8(name):
                yield f"the name {name!r} is not valid UTF-8"
            yield from _wrong(member, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield from _wrong(member, f"{path}[{index}]")
    elif isinstance(value, str) and not _is_utf8(value):
        yield f"{path}: {value!r} is not valid UTF-8"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is not a number that JSON has"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(detail: str) -> SluiceError:
    return SluiceError(
        ProblemDetails(type="urn:sluice:problem:invalid-request", title="The request is not valid", detail=detail)
    )
