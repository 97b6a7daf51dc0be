"""Tool calls that must be made: a grammar that makes the model write them, and the reading of what it writes.

`required` makes it write a list of calls, `function:NAME` the arguments of one. This works with every model, since it
needs no format of the model's own.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from pydantic import JsonValue

from shared.contracts.generation import GenerateParams, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType

__all__ = ["CallReader", "forced_schema", "new_call_id", "reader", "tool_names"]

NAMED: Final = "function:"


class CallReader(Protocol):
    """Turns the text that the grammar made into pieces of tool calls."""

    def read(self, text: str) -> tuple[ToolCallDelta, ...]: ...


def new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def tool_names(params: GenerateParams) -> tuple[str, ...]:
    """The functions' names. Raises Problem INVALID_REQUEST for what is no function tool."""
    names = [_function(tool).get("name") for tool in params.tools]
    if not all(isinstance(name, str) and name for name in names):
        raise _invalid('Each tool must be {"type": "function", "function": {"name": ..., "parameters": ...}}.')
    choice = params.tool_choice
    if choice.startswith(NAMED):
        if choice.removeprefix(NAMED) not in names:
            raise _invalid(f"tool_choice asks for {choice.removeprefix(NAMED)!r}, which is none of the tools.")
    elif choice not in ("auto", "none", "required"):
        raise _invalid(f"tool_choice is auto, none, required or function:NAME, not {choice!r}.")
    elif choice == "required" and not names:
        raise _invalid("tool_choice is required, but there are no tools.")
    return tuple(map(str, names))


def forced_schema(params: GenerateParams) -> dict[str, JsonValue] | None:
    """The JSON schema of what must be written; None where no call must be made."""
    functions = {str(function["name"]): function for function in map(_function, params.tools)}
    if params.tool_choice.startswith(NAMED):
        return _parameters(functions[params.tool_choice.removeprefix(NAMED)])
    if params.tool_choice != "required":
        return None
    definitions: dict[str, JsonValue] = {}
    calls: list[JsonValue] = [_call(function, definitions) for function in functions.values()]
    schema: dict[str, JsonValue] = {"type": "array", "minItems": 1, "items": {"anyOf": calls}}
    if not params.parallel_tool_calls:
        schema["maxItems"] = 1
    if definitions:
        schema["$defs"] = definitions
    return schema


def reader(params: GenerateParams) -> CallReader:
    """For text of the schema that `forced_schema` gave."""
    if params.tool_choice.startswith(NAMED):
        return _One(params.tool_choice.removeprefix(NAMED))
    return _Many()


def _function(tool: dict[str, JsonValue]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise _invalid("Only tools of the type function are supported.")
    if not isinstance(function.get("parameters") or {}, dict):
        raise _invalid("The parameters of a function must be a JSON schema of an object.")
    return function


def _parameters(function: dict[str, Any]) -> dict[str, JsonValue]:
    parameters = {"type": "object"} | (function.get("parameters") or {})
    if parameters["type"] != "object":
        raise _invalid(f"The parameters of {function['name']!r} must be a JSON schema of an object.")
    return parameters


def _call(function: dict[str, Any], definitions: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """One call's schema; what its parameters define for `$ref` moves to the top, where references look."""
    parameters = _parameters(function)
    own = parameters.pop("$defs", {})
    for name, definition in own.items() if isinstance(own, dict) else ():
        if definitions.setdefault(name, definition) != definition:
            raise _invalid(f"Two tools define {name!r} in their $defs differently.")
    return {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": [function["name"]]}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


class _One:
    """All text is the arguments of one call."""

    def __init__(self, name: str) -> None:
        self._name: str | None = name

    def read(self, text: str) -> tuple[ToolCallDelta, ...]:
        if not text:
            return ()
        if self._name is None:
            return (ToolCallDelta(index=0, arguments=text),)
        name, self._name = self._name, None
        return (ToolCallDelta(index=0, id=new_call_id(), name=name, arguments=text),)


class _Many:
    """A list of calls, `[{"name": ..., "arguments": {...}}, ...]`, read as it comes."""

    def __init__(self) -> None:
        self._index = -1
        self._depth = 0
        self._head = ""
        self._in_string = False
        self._escaped = False

    def read(self, text: str) -> tuple[ToolCallDelta, ...]:
        return tuple(_joined(piece for character in text for piece in self._take(character)))

    def _take(self, character: str) -> Iterator[ToolCallDelta]:
        inside = self._depth > 2  # [ { {
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
            if self._depth == 2:
                self._head = ""
            elif self._depth == 3:
                self._index += 1
                yield ToolCallDelta(index=self._index, id=new_call_id(), name=self._name(), arguments=character)
                return
        elif character in "}]":
            self._depth -= 1
        if inside:
            yield ToolCallDelta(index=self._index, arguments=character)
        elif self._depth == 2:
            self._head += character

    def _name(self) -> str:
        """From `{"name": "...", "arguments": `, which the grammar wrote."""
        head = self._head[: self._head.rindex(",")]
        return str(json.loads(head + "}")["name"])


def _joined(pieces: Iterator[ToolCallDelta]) -> Sequence[ToolCallDelta]:
    joined: list[ToolCallDelta] = []
    for piece in pieces:
        if joined and joined[-1].index == piece.index and piece.id is None:
            joined[-1] = joined[-1].model_copy(update={"arguments": joined[-1].arguments + piece.arguments})
        else:
            joined.append(piece)
    return joined


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, detail)
