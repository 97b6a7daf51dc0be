"""Chat messages as OpenAI's API writes them."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError, to_json

from shared.contracts.envelope import Message

__all__ = ["ChatMessage", "conversation_key"]


def _text(content: Any) -> Any:
    """Parts become one text. Everything but text is refused: no engine here sees or hears."""
    if not isinstance(content, list):
        return content
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if kind == "text" else part.get("refusal") if kind == "refusal" else None
        if not isinstance(text, str):
            raise PydanticCustomError(
                "text_part",
                "part {number} is of the type {kind}, and only parts of text can be read",
                {"number": number, "kind": repr(str(kind)[:40])},
            )
        texts.append(text)
    return "\n".join(texts)


class _CalledFunction(BaseModel):
    name: str
    arguments: str


class _ToolCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: _CalledFunction


class ChatMessage(BaseModel):
    """A turn of the conversation. `content` is text, or a list of parts of the type `text`."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        str | None, BeforeValidator(_text, json_schema_input_type=str | list[dict[str, JsonValue]] | None)
    ] = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = Field(None, description="What the model thought before this turn of its own.")

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise PydanticCustomError("no_content", "a message of the role '{role}' needs content", {"role": self.role})
        return self

    def message(self) -> Message:
        """As it travels in the envelope, with the members that a chat template may read."""
        return Message.model_validate(self.model_dump(exclude_none=True))


def conversation_key(messages: Sequence[ChatMessage]) -> str:
    """What all requests of one conversation have in common although each carries the whole of it: how it began."""
    opening: list[tuple[str, str | None]] = []
    for message in messages:
        opening.append((message.role, message.content))
        if message.role == "user":
            break
    return sha256(to_json(opening)).hexdigest()[:32]
