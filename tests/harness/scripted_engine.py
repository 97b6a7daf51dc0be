"""An engine that writes what a test says."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import anyio

from services.generator.engines.base import Finish, FinishReason, Item, Prepared, Prompt, TextDelta
from shared.contracts.events import Delivered, Usage

__all__ = ["ScriptedEngine"]


@dataclass
class ScriptedEngine:
    """A language model that says `text`, or what it makes of the prompt; or fails, or never answers."""

    text: str | Callable[[Prompt], str] = ""
    error: Exception | None = None
    silent: bool = False
    reason: FinishReason = FinishReason.STOP
    model: str = "tiny"
    name: str = "scripted"
    room: int = 4
    resumes: bool = False
    adapters: tuple[str, ...] = ()
    asked: list[Prompt] = field(default_factory=list)

    async def start(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def prepare(self, prompt: Prompt) -> Prepared:
        self.asked.append(prompt)
        return Prepared(prompt=prompt)

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:
        if self.silent:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        yield TextDelta(reasoning="What may this mean?")
        text = self.text if isinstance(self.text, str) else self.text(prepared.prompt)
        for letter in text:
            yield TextDelta(text=letter)
        yield Finish(self.reason, Usage())
