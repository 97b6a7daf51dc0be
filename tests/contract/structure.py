"""Structures of things as plain data, without prose and the names of classes, and differences between such data.

Nothing here imports product code.
"""

import ast
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, Final, ForwardRef, TypeVar

from pydantic import BaseModel, TypeAdapter

__all__ = [
    "attributes_of",
    "canonical",
    "differences",
    "literals",
    "members_of",
    "model_schema",
    "operation",
    "plain",
    "pretty",
    "schema",
    "spelled",
]

PROSE: Final = frozenset(
    {"title", "description", "summary", "example", "examples", "externalDocs", "operationId", "tags", "$defs"}
)
NAMED: Final = ("properties", "patternProperties")
UNORDERED: Final = ("anyOf", "oneOf", "allOf")
NESTED: Final = ("items", "additionalProperties", "propertyNames", "not", "contains")

SHOWN: Final = 300
"""Characters of a value in a difference."""


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def schema(node: Any, document: dict[str, Any], around: tuple[str, ...] = ()) -> Any:
    """A JSON schema with every reference written out. A recursive reference is the number of references up to it."""
    if not isinstance(node, dict):
        return node
    if (reference := node.get("$ref")) is not None:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        if reference in around:
            return {"recursive": len(around) - around.index(reference)}
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        return schema({**target, **beside}, document, (*around, reference))
    if len(node.get("allOf", ())) == 1:
        beside = {key: value for key, value in node.items() if key != "allOf"}
        return schema({**node["allOf"][0], **beside}, document, around)
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in PROSE:
            continue
        if key in NAMED:
            found[key] = {name: schema(member, document, around) for name, member in value.items()}
        elif key in UNORDERED:
            found[key] = sorted((schema(member, document, around) for member in value), key=canonical)
        elif key == "prefixItems":
            found[key] = [schema(member, document, around) for member in value]
        elif key in NESTED:
            found[key] = schema(value, document, around)
        elif key == "const":
            found["enum"] = [value]
        elif key in ("enum", "required"):
            found[key] = sorted(value, key=canonical)
        elif key == "discriminator":
            found[key] = {"member": value["propertyName"], "values": sorted(value.get("mapping", ()))}
        else:
            found[key] = value
    return found


def model_schema(model: Any, mode: typing.Literal["validation", "serialization"] = "validation") -> Any:
    """The schema of a Pydantic model, or of a type that Pydantic knows."""
    made = TypeAdapter(model).json_schema(mode=mode)
    return schema(made, made)


def attributes_of(model: type[BaseModel]) -> Any:
    """What a reader of an object finds: its attributes and their types, whether or not they have defaults."""

    def bare(node: Any) -> Any:
        if isinstance(node, list):
            return [bare(member) for member in node]
        if not isinstance(node, dict):
            return node
        found = {key: bare(value) for key, value in node.items() if key not in ("required", "default", *NAMED)}
        return found | {key: {n: bare(m) for n, m in node[key].items()} for key in NAMED if key in node}

    return bare(model_schema(model))


def operation(described: dict[str, Any], document: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """An operation of an OpenAPI document: parameters, body, responses by status with their problems, security.

    `known` are short words for bodies that are described elsewhere, by their schemas in canonical form.
    """

    def contents(content: dict[str, Any]) -> dict[str, Any]:
        found = {media: schema(form.get("schema", {}), document) for media, form in content.items()}
        return {media: known.get(canonical(body), body) for media, body in found.items()}

    def problems(content: dict[str, Any]) -> list[str]:
        examples = [example for form in content.values() for example in form.get("examples", {}).values()]
        return sorted(example["value"]["type"] for example in examples if "type" in example.get("value", {}))

    found: dict[str, Any] = {
        "parameters": {
            f"{parameter['in']} {parameter['name']}": {
                "required": parameter.get("required", False),
                "schema": schema(parameter["schema"], document),
            }
            for parameter in described.get("parameters", ())
        },
        "responses": {
            status: {
                "content": contents(response.get("content", {})),
                "headers": {name: schema(head, document) for name, head in response.get("headers", {}).items()},
                "problems": problems(response.get("content", {})),
            }
            for status, response in described["responses"].items()
        },
        "security": sorted(described.get("security", ()), key=canonical),
    }
    if (body := described.get("requestBody")) is not None:
        found["body"] = {"required": body.get("required", False), "content": contents(body["content"])}
    return found


def members_of(owner: type, public: dict[type, str], special: Iterable[str] = ()) -> dict[str, Any]:
    """The public members of a class, and those of the `special` ones that it has: signatures, properties, values.

    `public` gives the names of classes that users know by name.
    """
    foreign = {base for base in owner.__mro__ if base.__module__.partition(".")[0] in ("builtins", "enum", "pydantic")}
    inherited = {name for base in foreign for name in dir(base)}
    fields = owner.model_fields if issubclass(owner, BaseModel) else {}
    found: dict[str, Any] = {}
    for name in dir(owner):
        own = not name.startswith("_") and name not in inherited and name not in fields
        if not own and not (name in special and inspect.getattr_static(owner, name) is not getattr(object, name, None)):
            continue
        member = inspect.getattr_static(owner, name)
        if isinstance(member, property | types.MemberDescriptorType):
            found[name] = "attribute"
        elif isinstance(member, enum.Enum):
            found[name] = {"value": member.value}
        elif callable(getattr(owner, name)):
            found[name] = signature(getattr(owner, name), public)
        else:
            found[name] = "attribute"
    return found


def signature(function: Callable[..., Any], public: dict[type, str]) -> list[str]:
    """Each parameter as it is written in a call, then what is returned where that is said."""
    found = inspect.signature(function)
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    parameters = []
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        kind = parameter.kind.name.lower().replace("_", " ")
        kinds = "" if parameter.annotation is parameter.empty else f": {spelled(parameter.annotation, scope, public)}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parameters.append(f"{kind} {parameter.name}{kinds}{default}")
    if found.return_annotation is not inspect.Signature.empty:
        parameters.append(f"returns {spelled(found.return_annotation, scope, public)}")
    return [f"{number}. {parameter}" for number, parameter in enumerate(parameters)]


def spelled(annotation: Any, scope: dict[str, Any] | None = None, public: dict[type, str] | None = None) -> str:
    """A type by its name where users know it, else by its structure."""

    scope, public = scope or {}, public or {}

    def again(part: Any) -> str:
        return spelled(part, scope, public)

    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            return again(eval(annotation, scope))
        except NameError:
            return "not known at run time"
    if annotation in (None, type(None)):
        return "None"
    if annotation is ...:
        return "..."
    if isinstance(annotation, TypeVar):
        return "a type variable"
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(sorted({again(part) for part in arguments}))
    if origin is typing.Literal:
        return f"one of {canonical(sorted(arguments, key=canonical))}"
    if isinstance(annotation, list):
        return f"[{', '.join(map(again, annotation))}]"
    if origin is not None:
        return f"{again(origin)}[{', '.join(map(again, arguments))}]"
    if annotation in public:
        return public[annotation]
    if isinstance(annotation, type):
        return _class(annotation)
    return str(annotation).removeprefix("typing.")


def _class(found: type) -> str:
    if issubclass(found, BaseModel):
        return f"object({', '.join(sorted(found.model_fields))})"
    if issubclass(found, enum.Enum):
        return f"one of {canonical(sorted((member.value for member in found), key=canonical))}"
    if (fields := getattr(found, "__dataclass_fields__", None)) is not None:
        return f"object({', '.join(sorted(fields))})"
    return "own class" if found.__module__.partition(".")[0] in ("sluice", "shared", "services") else found.__name__


def literals(folders: Iterable[Path], pattern: str) -> list[str]:
    """The whole string literals in the code below these folders that match a pattern. Prose is none."""
    wanted = re.compile(pattern)
    found = set()
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        text = path.read_text()
        if wanted.search(text):
            nodes = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            found |= {value for value in nodes if isinstance(value, str) and wanted.fullmatch(value)}
    return sorted(found)


def differences(before: Any, now: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """What was removed, changed or added, an item a line. Lists are compared as sets."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if key not in now:
                yield _line("removed", (*path, key), before[key])
            elif key not in before:
                yield _line("added", (*path, key), now[key])
            else:
                yield from differences(before[key], now[key], (*path, key))
    elif isinstance(before, list) and isinstance(now, list):
        old, new = {canonical(item): item for item in before}, {canonical(item): item for item in now}
        removed, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
        if len(removed) == len(added) == 1:
            yield from differences(old[removed[0]], new[added[0]], (*path, "[]"))
            return
        yield from (_line("removed", (*path, "[]"), old[item]) for item in removed)
        yield from (_line("added", (*path, "[]"), new[item]) for item in added)
    elif before != now or isinstance(before, bool) != isinstance(now, bool):
        yield f"changed  {' > '.join(path)}: {_short(before)} -> {_short(now)}"


def _line(what: str, path: tuple[str, ...], value: Any) -> str:
    return f"{what:<8} {' > '.join(path)}: {_short(value)}"


def _short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def plain(value: Any) -> Any:
    """A default as JSON; what is computed at run time is only that."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if callable(value):
        return "computed"
    return value


def pretty(value: Any, width: int = 120, indent: int = 0) -> str:
    """JSON with what fits into a line in one line."""
    line = canonical(value)
    if len(line) + indent <= width or not isinstance(value, dict | list) or not value:
        return line
    inner = " " * (indent + 1)
    if isinstance(value, list):
        items = [f"{inner}{pretty(item, width, indent + 1)}" for item in value]
        return "[\n" + ",\n".join(items) + f"\n{' ' * indent}]"
    items = [
        f"{inner}{json.dumps(key, ensure_ascii=False)}: {pretty(value[key], width, indent + 2)}"
        for key in sorted(value)
    ]
    return "{\n" + ",\n".join(items) + f"\n{' ' * indent}}}"
