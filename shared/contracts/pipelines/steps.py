"""From a step's resolved JSON to the spec of its job."""

from collections.abc import Container
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from shared.contracts.jobs import JobSpec, decode_spec
from shared.contracts.pipelines.expressions import as_text

__all__ = ["step_spec"]

WANTS_TEXT: Final = "string_type"


def step_spec(resolved: JsonValue, *, lenient: bool = False) -> JobSpec:
    """The spec. A number or a truth value where a text is wanted, such as an argument of a command, is written out.

    Leniency is that of `decode_spec`. Raises pydantic.ValidationError.
    """
    assert isinstance(resolved, dict)
    try:
        return decode_spec(resolved, lenient=lenient)
    except ValidationError as error:
        places = [found["loc"][1:] for found in error.errors() if found["type"] == WANTS_TEXT]
        written = [_write_out(resolved, place) for place in places]
        if not any(written):
            raise
        return decode_spec(resolved, lenient=lenient)


def _write_out(value: Any, place: tuple[int | str, ...]) -> bool:
    """Make a text of what is at a place; returns whether it could. A place may also name the member of a union."""
    owner, key, found = None, None, value
    for part in place:
        if part in _keys(found):
            owner, key, found = found, part, found[part]
    if owner is None or not isinstance(found, bool | int | float):
        return False
    owner[key] = as_text(found)
    return True


def _keys(value: Any) -> Container[int | str]:
    return value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
