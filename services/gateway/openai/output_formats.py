"""The format of an answer and the tools that it may call, in the members of OpenAI and of vLLM."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json

from services.gateway.http.problems import invalid_member
from shared.contracts.generation import OutputFormat

__all__ = [
    "JsonSchemaText",
    "ResponseFormat",
    "StructuredOutputs",
    "Tool",
    "ToolChoice",
    "output_formats",
    "single_format",
]

NAMED: Final = "function:"


def _schema(value: Any) -> Any:
    """A schema may come as text, as in vLLM."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError:
        raise PydanticCustomError("json_schema", "is not JSON text") from None


JsonSchemaText = Annotated[dict[str, JsonValue], BeforeValidator(_schema)]


class _NamedSchema(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str = ""
    schema_: dict[str, JsonValue] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """OpenAI's `response_format`. A schema is always followed strictly."""

    model_config = ConfigDict(frozen=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _NamedSchema | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError("json_schema", "the type json_schema and the member json_schema go together")
        return self

    @property
    def output(self) -> OutputFormat | None:
        if self.json_schema is not None:
            return OutputFormat(json_schema=self.json_schema.schema_)
        return OutputFormat(json_object=True) if self.type == "json_object" else None


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`: exactly one member is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    json_: JsonSchemaText | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: Annotated[list[str], Field(min_length=1)] | None = None
    grammar: str | None = None


def output_formats(at: str, **given: Any) -> list[OutputFormat]:
    """A format for each of the arguments that is given, by its name in `OutputFormat`.

    Raises Problem INVALID_REQUEST, which names a member as one that begins with `at`.
    """
    formats = []
    for name, value in given.items():
        if value in (None, False):
            continue
        try:
            formats.append(OutputFormat.model_validate({name: value}))
        except ValidationError as error:
            raise invalid_member(f"{at}{name}", error.errors()[0]["msg"]) from None
    return formats


def single_format(formats: Sequence[OutputFormat]) -> OutputFormat | None:
    """Raises Problem INVALID_REQUEST for more."""
    if len(formats) > 1:
        raise invalid_member("response_format", "an answer has one format, and the request names several")
    return formats[0] if formats else None


class _Function(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """A function that the model may ask to be called."""

    model_config = ConfigDict(frozen=True)

    type: Literal["function"]
    function: _Function


def _choice(value: Any) -> Any:
    """`{"type": "function", "function": {"name": N}}` becomes `function:N`."""
    if isinstance(value, str) and value in ("auto", "none", "required"):
        return value
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise PydanticCustomError("tool_choice", "must be auto, none, required or a function of the tools by its name")
    return NAMED + name


ToolChoice = Annotated[str, BeforeValidator(_choice, json_schema_input_type=str | dict[str, JsonValue])]
