"""Validates bodies so that the report of what is wrong stays small.

Pydantic reports every error of a body, each in about a kilobyte: two megabytes of wrong items become a gigabyte. So a
body that is not small is first held against the same schema, which there ends a list or an object at its first error
and counts members that are not known. Only a body with few errors is validated as the model says.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from pydantic_core import SchemaValidator

from services.gateway.http.problems import invalid_members

__all__ = ["validated"]

Model = TypeVar("Model", bound=BaseModel)

SMALL: Final = 8 * 1024
"""Bytes of a body whose errors can be reported whatever they are."""

MOST_UNKNOWN: Final = 100
"""Members of a larger body that may be unknown for each to be reported."""

COLLECTIONS: Final = frozenset({"list", "tuple", "set", "frozenset", "dict"})

EXTRA: Final = ("extra_behavior", "extra_fields_behavior")

Place = tuple[str | int, ...]


def validated(model: type[Model], body: bytes) -> Model:
    """The body as a model. Raises pydantic.ValidationError, or Problem INVALID_REQUEST for very many unknown members.

    Time and memory are linear in the length of the body.
    """
    if len(body) > SMALL:
        found = []
        brief = _brief(model).validate_json(body)
        for place in _unknown(brief, ()) if _forbids(model.__pydantic_core_schema__) else ():
            found.append(place)
            if len(found) > MOST_UNKNOWN:
                raise invalid_members((place, "Extra inputs are not permitted") for place in found)
    return model.model_validate_json(body)


@cache
def _brief(model: type[BaseModel]) -> SchemaValidator:
    # Otherwise the validators of the classes, which are there already, would be taken for the parts.
    return SchemaValidator(_shortened(model.__pydantic_core_schema__), _use_prebuilt=False)


def _forbids(schema: Any) -> bool:
    """Whether a model anywhere in it takes no unknown members."""
    if isinstance(schema, list | tuple):
        return any(map(_forbids, schema))
    if not isinstance(schema, dict):
        return False
    forbids = any(schema.get(name) == "forbid" for name in EXTRA)
    return forbids or any(map(_forbids, schema.values()))


def _shortened(schema: Any) -> Any:
    """The schema, but a collection ends at its first error, and unknown members are kept and are no errors."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_shortened, schema))
    if not isinstance(schema, dict):
        return schema
    changed = {name: _shortened(member) for name, member in schema.items()}
    kind = changed.get("type")  # a model may have a field of this name
    if isinstance(kind, str) and kind in COLLECTIONS:
        changed["fail_fast"] = True
    for name in EXTRA:
        if changed.get(name) == "forbid":
            changed[name] = "allow"
    return changed


def _unknown(value: Any, at: Place) -> Iterator[Place]:
    """Where there are members that no model has."""
    match value:
        case BaseModel():
            for name in value.model_extra or ():
                yield (*at, name)
            for name in type(value).model_fields:
                yield from _unknown(getattr(value, name), (*at, name))
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _unknown(item, (*at, index))
        case dict():
            for name, member in value.items():
                if isinstance(member, BaseModel | list | tuple):
                    yield from _unknown(member, (*at, name))
