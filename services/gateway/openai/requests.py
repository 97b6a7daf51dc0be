"""Requests in OpenAI's form, with the members of vLLM that have a meaning here, and `sluice` for the rest.

Members that nobody here knows are ignored, as compatible servers do. Those that would change the answer and are not
supported are refused, unless they ask for what happens anyway. `null` is as good as nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from services.gateway.http.problems import invalid_member
from services.gateway.openai.chat.messages import ChatMessage
from services.gateway.openai.output_formats import (
    JsonSchemaText,
    ResponseFormat,
    StructuredOutputs,
    Tool,
    ToolChoice,
    output_formats,
    single_format,
)
from services.gateway.queries.generation_options import Sampling
from services.gateway.queries.retrieval_options import Retrieval
from shared.contracts.generation import GenerateParams, Mode, OutputFormat

__all__ = ["ChatRequest", "CompletionRequest", "EmbeddingRequest", "SluiceOptions"]

UNSUPPORTED: Final = "is not supported here"


class SluiceOptions(BaseModel):
    """The extra member `sluice` (in the SDK: `extra_body={"sluice": {...}}`). Unknown members are refused.

    Any of the first six makes a chat an answer from documents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str | None = Field(None, description="The collection to answer from.")
    top_k: int | None = Field(None, ge=1, le=100, description="Passages to answer from.")
    filter: dict[str, JsonValue] | None = Field(None, description="Which documents to use, by metadata.")
    pipeline: str | None = None
    retrieval: Retrieval | None = Field(None, description="How passages are searched and ranked.")
    rerank: bool | None = Field(None, description="Have the stage `rerank` choose among more passages.")
    conversation: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="What all requests of a conversation have in common, so that one variant answers them all."
    )
    timeout: float | None = Field(None, description="Seconds that the request may take.")

    @property
    def retrieves(self) -> bool:
        chosen = (self.collection, self.top_k, self.filter, self.pipeline, self.retrieval, self.rerank)
        return any(option is not None for option in chosen)


class _Request(BaseModel):
    """`REFUSED` names members that would change the answer, each with the reason that the client is told."""

    model_config = ConfigDict(frozen=True)

    REFUSED: ClassVar[Mapping[str, str]] = {}
    WITHOUT_EFFECT: ClassVar[Mapping[str, JsonValue]] = {}
    """Values of refused members that ask for nothing."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        said = {name: value for name, value in body.items() if value is not None}
        for name, reason in cls.REFUSED.items():
            if said.get(name) and said[name] != cls.WITHOUT_EFFECT.get(name):
                raise invalid_member(name, reason)
        return said


class StreamOptions(BaseModel):
    model_config = ConfigDict(frozen=True)

    include_usage: bool = Field(False, description="Send the usage in a chunk of its own before the end.")


class _GenerationRequest(_Request, Sampling):
    """What chat and completions have in common."""

    model: str
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: Annotated[int, Field(ge=1, le=1)] = 1
    prompt_cache_key: str | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonSchemaText | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], Field(min_length=1)] | None = None
    guided_grammar: str | None = None
    response_format: ResponseFormat | None = None
    sluice: SluiceOptions = SluiceOptions()

    @property
    def output(self) -> OutputFormat | None:
        """Raises Problem INVALID_REQUEST where more than one format is named."""
        own = self.structured_outputs or StructuredOutputs()
        asked = self.response_format.output if self.response_format else None
        return single_format(
            [
                *([asked] if asked else []),
                *output_formats("structured_outputs.", json_schema=own.json_, **own.model_dump(exclude={"json_"})),
                *output_formats(
                    "guided_",
                    json_schema=self.guided_json,
                    regex=self.guided_regex,
                    choice=self.guided_choice,
                    grammar=self.guided_grammar,
                ),
            ]
        )


_SAMPLERS: Final = dict.fromkeys(
    (
        "allowed_token_ids",
        "bad_words",
        "length_penalty",
        "logit_bias",
        "logits_processors",
        "prompt_logprobs",
        "stop_token_ids",
        "use_beam_search",
    ),
    UNSUPPORTED,
)


class ChatRequest(_GenerationRequest):
    """POST /v1/chat/completions"""

    REFUSED = {
        **_SAMPLERS,
        "audio": "only text is written here",
        "modalities": "only text is written here",
        "functions": "give them as `tools`",
        "function_call": "give it as `tool_choice`",
        "web_search_options": UNSUPPORTED,
        "chat_template": "the model's own template is used",
        "chat_template_kwargs": UNSUPPORTED,
        "continue_final_message": UNSUPPORTED,
        "documents": "name a collection in `sluice.collection` instead",
        "echo": UNSUPPORTED,
    }
    WITHOUT_EFFECT = {"modalities": ["text"], "function_call": "none"}

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: int | None = Field(None, description="Goes before `max_tokens`.")
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] = []
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True

    def generate_params(self, mode: Mode) -> GenerateParams:
        """The parameters of the stop `generate`. Raises Problem INVALID_REQUEST."""
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid_member("top_logprobs", "needs `logprobs` to be true")
        more: dict[str, Any] = {"mode": mode, "output": self.output, **self._tools()}
        if self.max_completion_tokens is not None:
            more["max_tokens"] = self.max_completion_tokens
        if self.logprobs:
            more["logprobs"] = self.top_logprobs or 0
        return self.params(**more)

    def _tools(self) -> dict[str, Any]:
        if not self.tools:
            if self.tool_choice not in (None, "none", "auto"):
                raise invalid_member("tool_choice", "needs `tools` to choose from")
            return {}
        choice = self.tool_choice or "auto"
        names = {f"function:{tool.function.name}" for tool in self.tools}
        if choice.startswith("function:") and choice not in names:
            raise invalid_member("tool_choice", "names a function that is not among the tools")
        return {
            "tools": [tool.model_dump(mode="json", exclude_none=True) for tool in self.tools],
            "tool_choice": choice,
            "parallel_tool_calls": self.parallel_tool_calls,
        }


def _one_text(prompt: Any) -> Any:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    if not isinstance(prompt, str):
        raise PydanticCustomError("one_text", "must be one text; lists of texts and of tokens are not taken")
    return prompt


class CompletionRequest(_GenerationRequest):
    """POST /v1/completions"""

    REFUSED = {
        **_SAMPLERS,
        "best_of": "only one answer is written",
        "echo": UNSUPPORTED,
        "suffix": UNSUPPORTED,
        "prompt_embeds": UNSUPPORTED,
    }
    WITHOUT_EFFECT = {"best_of": 1}

    prompt: Annotated[str, BeforeValidator(_one_text, json_schema_input_type=str | list[str])]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def generate_params(self) -> GenerateParams:
        """The parameters of the stop `generate`. Raises Problem INVALID_REQUEST."""
        return self.params(mode=Mode.COMPLETION, output=self.output, logprobs=self.logprobs)


def _texts(given: Any) -> Any:
    """One text or a list of texts."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or any(not isinstance(text, str) for text in texts):
        raise PydanticCustomError("texts", "must be a text or a list of texts; tokens are not taken")
    return texts


class EmbeddingOptions(BaseModel):
    """The extra member `sluice`. Models for search embed what is searched for otherwise than what is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_type: Literal["query", "document"] = "document"
    timeout: float | None = Field(None, description="Seconds that each part of a large request may take.")


class EmbeddingRequest(_Request):
    """POST /v1/embeddings"""

    model: str
    input: Annotated[
        list[str],
        BeforeValidator(_texts, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=2048),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    sluice: EmbeddingOptions = EmbeddingOptions()
