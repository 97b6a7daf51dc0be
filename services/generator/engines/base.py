"""The contract between the generator and whatever writes its answers."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from shared.contracts.events import Delivered, Usage
from shared.contracts.generation import ContextReport, TokenLogprob, ToolCallDelta
from shared.prompting.prompt import Prompt, PromptPassage

__all__ = [
    "Engine",
    "EngineLostError",
    "EngineName",
    "Finish",
    "FinishReason",
    "Item",
    "Prepared",
    "Prompt",
    "PromptPassage",
    "TextDelta",
]


class EngineName(StrEnum):
    """The engines that Sluice brings."""

    EXTRACTIVE = "extractive"
    OPENAI = "openai"
    VLLM = "vllm"


class EngineLostError(Exception):
    """The engine is gone and does not come back in this process: another replica must take its work."""


class FinishReason(StrEnum):
    """Why an answer ended: the engine was done, it met its limit of length, it wants tools to be called, or the rest
    must not be sent."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prompt in the engine's own form, `material`, and what of it fitted into the context window."""

    prompt: Prompt
    context: ContextReport = ContextReport()
    material: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """The next piece of the answer; at least one of its members is not empty.

    `tokens` are the engine's own for this piece: text that is still held back has its tokens in a later one.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of the answer."""

    reason: FinishReason
    usage: Usage


Item = TextDelta | Finish


@runtime_checkable
class Engine(Protocol):
    """Writes answers. The order of calls is `start`, any number of `prepare` and `generate`, `close`.

    - `start` makes the engine ready and raises Problem(ENGINE_FAILED) where that is not possible now; it has then
      cleaned up after itself and may be called again.
    - `prepare` fits a prompt into the context window. It raises Problem(CONTEXT_EXCEEDED) where what cannot be left
      out is too much already, and Problem(INVALID_REQUEST) for what the engine cannot do.
    - `generate` may run any number of times at once; past `room` calls wait for one another. It yields any number of
      TextDeltas, then exactly one Finish, which is the last item. It raises Problem(ENGINE_FAILED) instead of Finish
      when it fails, also after deltas, and EngineLostError when the whole engine is gone.
    - With `after`, which only an engine that `resumes` is given, the deltas go on after that text. The usage counts
      the whole answer.
    - A caller that stops early closes the generator (`aclose`) or is cancelled, which each delta gives way to: the
      engine stops its work, upstream too, before either returns, and its place is free again.
    - `close` is called once no `generate` runs; it may be called twice and after a failed `start`.
    """

    @property
    def name(self) -> str:
        """What the answer says it was written by."""

    @property
    def model(self) -> str:
        """The name under which its model can be asked for; empty for an engine that has none. Known after `start`."""

    @property
    def room(self) -> int:
        """How many answers it writes at once. Known after `start`."""

    @property
    def resumes(self) -> bool:
        """Whether it can go on from the text of an unfinished answer. Known after `start`."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the fine-tuned versions of its model that it can write with as well; each serves its variant."""

    async def start(self) -> None: ...

    async def prepare(self, prompt: Prompt) -> Prepared: ...

    def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]: ...

    async def close(self) -> None: ...
