"""The base and the types of the HTTP API's schemas.

The gateway writes objects of these classes, and the client reads them. The description of a class in serialization
mode is what the gateway promises: it has every member, times are Unix seconds. A reader takes less, so that it gets
along with a server of another version, and finds times as `datetime`.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = ["Listing", "Metadata", "Sent", "Timestamp", "Schema", "closed_set"]

T = TypeVar("T")

LONGEST_REPR: Final = 200
"""Characters of a text, and"""
MOST_REPR: Final = 20
"""members of a tuple, that `repr` shows."""


class Schema(BaseModel):
    """An immutable object of the HTTP API. Members that a newer server adds are kept; its description omits them."""

    model_config = ConfigDict(
        frozen=True, extra="allow", from_attributes=True, json_schema_serialization_defaults_required=True
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(core_schema)
        if handler.mode == "serialization":
            own = handler.resolve_ref_schema(described)
            own.pop("additionalProperties", None)
            for member in own.get("properties", {}).values():
                member.pop("default", None)
        return described

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What differs from the defaults, with long texts and tuples cut: an answer would fill the screen."""
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            field = fields.get(name or "")
            if field is None or field.is_required() or value != field.get_default(call_default_factory=True):
                yield name, _shortened(value)

    def _repr_html_(self) -> str | None:
        """What a notebook shows; None where the plain text is as good."""
        from sluice.notebook import html

        return html(self)


class Listing(list[T]):
    """A list of objects of the API, which a notebook shows as a table."""

    def _repr_html_(self) -> str | None:
        from sluice.notebook import html

        return html(self)


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_REPR:
        return f"{value[:LONGEST_REPR]}…"
    if isinstance(value, tuple) and len(value) > MOST_REPR:
        return (*value[:MOST_REPR], ...)
    return value


class _NeverNull:
    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(core_schema)
        if handler.mode == "serialization":
            (described,) = (choice for choice in described["anyOf"] if choice != {"type": "null"})
        return described


def closed_set(*values: str) -> WithJsonSchema:
    """Describes a text as one of these. A reader takes any, as a newer server may have more of them."""
    return WithJsonSchema({"type": "string", "enum": list(values)}, mode="serialization")


Sent = Annotated[T | None, _NeverNull()]
"""What the gateway always writes; None in an object that was made without it."""

Timestamp = Annotated[datetime, PlainSerializer(datetime.timestamp, return_type=float, when_used="json")]
"""Unix seconds in JSON."""

Metadata = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": kind} for kind in ("string", "boolean", "integer", "number")]},
        },
        mode="serialization",
    ),
]
"""Scalars by name."""
