"""The base of what services write on the wire."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, JsonValue

__all__ = ["Wire", "is_unicode", "texts_in"]


class Wire(BaseModel):
    """Immutable, and tolerant of members added by a newer version."""

    model_config = ConfigDict(
        frozen=True, extra="allow", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )


def is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogate, half a character, which no message can carry."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def texts_in(value: JsonValue) -> Iterator[str]:
    """The texts anywhere in a value but the names of members."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts_in(item)
        case dict():
            for member in value.values():
                yield from texts_in(member)
