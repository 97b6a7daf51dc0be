"""From the chunks of a streamed response to pieces of the answer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.generator.engines.base import FinishReason, TextDelta
from shared.contracts.events import Usage
from shared.contracts.generation import TokenLogprob, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    from openai.types import Completion
    from openai.types.chat import ChatCompletionChunk

__all__ = ["Chunk", "read_chat", "read_completion"]

REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one chunk adds: text and the like, the reason of the end, the usage; each may be missing."""

    delta: TextDelta | None = None
    reason: FinishReason | None = None
    usage: Usage | None = None


def read_chat(chunk: "ChatCompletionChunk") -> Chunk:
    """Raises Problem ENGINE_FAILED where the server refuses the answer, and any of AttributeError, TypeError and
    ValueError for what is not of the API's shape."""
    usage = _usage(chunk.usage)
    if not chunk.choices:
        return Chunk(usage=usage)
    choice = chunk.choices[0]
    said = choice.delta
    delta = TextDelta(
        text=(said.content or "") + (said.refusal or ""),
        reasoning=getattr(said, "reasoning_content", None) or getattr(said, "reasoning", None) or "",
        tool_calls=tuple(map(_call, said.tool_calls or ())),
        logprobs=tuple(map(_logprob, (choice.logprobs and choice.logprobs.content) or ())),
    )
    return Chunk(delta=_some(delta), reason=_reason(choice.finish_reason), usage=usage)


def read_completion(chunk: "Completion") -> Chunk:
    """As `read_chat`."""
    usage = _usage(chunk.usage)
    if not chunk.choices:
        return Chunk(usage=usage)
    choice = chunk.choices[0]
    delta = TextDelta(text=choice.text or "", logprobs=_plain_logprobs(choice.logprobs))
    return Chunk(delta=_some(delta), reason=_reason(choice.finish_reason), usage=usage)


def _some(delta: TextDelta) -> TextDelta | None:
    return None if delta == TextDelta() else delta


def _reason(reason: str | None) -> FinishReason | None:
    if reason == "content_filter":
        raise Problem(ProblemType.ENGINE_FAILED, "The model server's content filter stopped the answer.")
    # Servers have reasons of their own for an end that the model chose.
    return None if reason is None else REASONS.get(reason, FinishReason.STOP)


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=getattr(details, "cached_tokens", None) or 0,
    )


def _call(call: Any) -> ToolCallDelta:
    function = call.function
    return ToolCallDelta(
        index=call.index,
        id=call.id,
        name=function.name if function else None,
        arguments=(function.arguments if function else None) or "",
    )


def _logprob(entry: Any) -> TokenLogprob:
    top = tuple((one.token, one.logprob) for one in entry.top_logprobs or ())
    return TokenLogprob(token=entry.token, logprob=entry.logprob, top=top)


def _plain_logprobs(logprobs: Any) -> tuple[TokenLogprob, ...]:
    if logprobs is None or not logprobs.tokens:
        return ()
    tops = logprobs.top_logprobs or [None] * len(logprobs.tokens)
    rows = zip(logprobs.tokens, logprobs.token_logprobs, tops, strict=True)
    # The first token of an echoed prompt has none.
    return tuple(
        TokenLogprob(token=token, logprob=logprob or 0.0, top=tuple((top or {}).items()))
        for token, logprob, top in rows
    )
