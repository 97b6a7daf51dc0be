"""The contract between the generator and whatever writes its answers."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

__all__ = [
    "Engine",
    "EngineName",
    "Finish",
    "FinishReason",
    "GenerationParams",
    "Item",
    "Prompt",
    "PromptPassage",
    "TextDelta",
    "Usage",
]


class EngineName(StrEnum):
    """The engines that Sluice brings."""

    EXTRACTIVE = "extractive"
    OPENAI = "openai"


class FinishReason(StrEnum):
    """Why an answer ended: the engine was done, or it met the limit of its length."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationParams:
    """How to write. None leaves the choice to the model; an engine ignores what has no meaning for it."""

    max_tokens: int = 512
    temperature: float | None = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPassage:
    """A passage as the answer cites it: `[index]`, counted from 1, best passage first."""

    index: int
    text: str
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What to answer, and from what."""

    question: str
    passages: tuple[PromptPassage, ...] = ()
    params: GenerationParams = GenerationParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the engine counts them; its docstring says so where it counts something else."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of the answer."""

    reason: FinishReason
    usage: Usage


Item = TextDelta | Finish


@runtime_checkable
class Engine(Protocol):
    """Writes answers. The order of calls is `start`, any number of `generate`, `close`.

    - `start` makes the engine ready and raises Problem(ENGINE_FAILED) where that is not possible now; it has then
      cleaned up after itself and may be called again.
    - `generate` may run any number of times at once; past `room` calls wait for one another. It yields at least
      one TextDelta, then exactly one Finish, which is the last item. It raises Problem(ENGINE_FAILED)
      instead of Finish when it fails, also after deltas.
    - A caller that stops early closes the generator (`aclose`) or is cancelled, which each delta gives way to: the
      engine stops its work, upstream too, before either returns, and its place is free again.
    - `close` is called once no `generate` runs; it may be called twice and after a failed `start`.
    """

    @property
    def name(self) -> str:
        """What the answer says it was written by."""

    @property
    def room(self) -> int:
        """How many answers it writes at once."""

    async def start(self) -> None: ...

    def generate(self, prompt: Prompt) -> AsyncGenerator[Item, None]: ...

    async def close(self) -> None: ...
