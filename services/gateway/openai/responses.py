"""Responses in OpenAI's form. Only members that were set are sent; `sluice` is what OpenAI has no member for."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from shared.contracts.events import SentenceSupport, Usage
from shared.contracts.generation import ContextReport, TokenLogprob
from shared.contracts.results import Searched
from sluice.api.openai import ModelBody
from sluice.api.queries import Source, Timings

__all__ = [
    "Annotation",
    "AnsweredBy",
    "ChatChoice",
    "ChatChunk",
    "ChatChunkChoice",
    "ChatCompletion",
    "ChatDelta",
    "ChatLogprobs",
    "ChatMessageBody",
    "Completion",
    "CompletionChoice",
    "CompletionLogprobs",
    "Embedding",
    "EmbeddingList",
    "EmbeddingUsage",
    "ModelList",
    "TokenUsage",
    "ToolCallBody",
    "UrlCitation",
    "encode_response",
]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


def encode_response(body: _Body) -> bytes:
    return body.__pydantic_serializer__.to_json(body, exclude_unset=True)


class _PromptDetails(_Body):
    cached_tokens: int


class TokenUsage(_Body):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails

    @classmethod
    def of(cls, usage: Usage) -> "TokenUsage":
        return cls(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
            prompt_tokens_details=_PromptDetails(cached_tokens=usage.cached_tokens),
        )


class AnsweredBy(_Body):
    """The extra member `sluice`. `sources`, `cited` and `supported` are those of an answer from documents.

    In a stream the sources come with the first chunk, and the rest with the one that has the `finish_reason`.
    """

    sources: tuple[Source, ...] = ()
    cited: tuple[int, ...] = ()
    supported: tuple[SentenceSupport, ...] = ()
    supported_by: str = ""
    confidence: float | None = None
    answerable: bool | None = None
    searched: Searched | None = None
    context: ContextReport | None = None
    timings: Timings | None = None
    engine: str = ""
    model: str = ""
    trace_id: str = ""


class UrlCitation(_Body):
    """`start_index` and `end_index` bound the citation in the text, like a slice."""

    url: str
    title: str
    start_index: int
    end_index: int


class Annotation(_Body):
    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation


class _Likely(_Body):
    token: str
    logprob: float
    bytes: list[int]


class _Token(_Likely):
    top_logprobs: list[_Likely]


class ChatLogprobs(_Body):
    content: list[_Token]
    refusal: None = None

    @classmethod
    def of(cls, logprobs: Sequence[TokenLogprob]) -> "ChatLogprobs":
        tokens = [
            _Token(
                token=one.token,
                logprob=one.logprob,
                bytes=list(one.token.encode()),
                top_logprobs=[_Likely(token=t, logprob=p, bytes=list(t.encode())) for t, p in one.top],
            )
            for one in logprobs
        ]
        return cls(content=tokens, refusal=None)


class CompletionLogprobs(_Body):
    """`text_offset` is where each token begins in the text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]

    @classmethod
    def of(cls, logprobs: Sequence[TokenLogprob], begin: int = 0) -> "CompletionLogprobs":
        offsets = []
        for one in logprobs:
            offsets.append(begin)
            begin += len(one.token)
        return cls(
            tokens=[one.token for one in logprobs],
            token_logprobs=[one.logprob for one in logprobs],
            top_logprobs=[dict(one.top) for one in logprobs],
            text_offset=offsets,
        )


class _Function(_Body):
    name: str
    arguments: str


class ToolCallBody(_Body):
    id: str
    type: Literal["function"]
    function: _Function

    @classmethod
    def of(cls, call: str, name: str, arguments: str) -> "ToolCallBody":
        return cls(id=call, type="function", function=_Function(name=name, arguments=arguments))


class ChatMessageBody(_Body):
    """`content` is null where the model only asks for tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[ToolCallBody] = []
    annotations: list[Annotation]


class ChatChoice(_Body):
    index: int
    message: ChatMessageBody
    logprobs: ChatLogprobs | None
    finish_reason: str


class _Answer(_Body):
    id: str
    created: int
    model: str


class ChatCompletion(_Answer):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: TokenUsage
    system_fingerprint: str
    sluice: AnsweredBy


class ChatDelta(_Body):
    """What is new; `tool_calls` are pieces, put together by their `index`."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str = ""
    tool_calls: list[dict[str, Any]] = []
    annotations: list[Annotation] = []


class ChatChunkChoice(_Body):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatChunk(_Answer):
    """What comes of a streamed chat at a time; in the chunk with the usage there is no choice."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: TokenUsage | None = None
    system_fingerprint: str | None = None
    sluice: AnsweredBy | None = None


class CompletionChoice(_Body):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(_Answer):
    """A whole completion, or a chunk of one: then the usage comes at the end, if it was asked for."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: TokenUsage | None = None
    system_fingerprint: str | None = None
    sluice: AnsweredBy | None = None


class Embedding(_Body):
    """`embedding` is a list of numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(_Body):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(_Body):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelList(_Body):
    object: Literal["list"] = "list"
    data: list[ModelBody]
