"""What a prompt is made of."""

from dataclasses import dataclass, replace
from typing import Self

from shared.contracts.envelope import Message
from shared.contracts.generation import GenerateParams

__all__ = ["Prompt", "PromptPassage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPassage:
    """A passage as the answer cites it: `[index]`, counted from 1, best passage first.

    `text` is what the answer may be made from. Where that is more than the passage, `own` is the passage alone, for an
    engine whose window has no room for more. `position` orders the passages of one document.
    """

    index: int
    text: str
    document: str
    own: str = ""
    document_id: str = ""
    position: int = 0

    @property
    def alone(self) -> Self:
        """Without the text around it."""
        return replace(self, text=self.own, own="") if self.own else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What to write, and from what. `params.mode` says which of the others count.

    answer: `question`, `passages`, and the turns before it, `messages`; `standalone` says the question without need
    of those turns, where it was condensed; `answerable` is None where nobody knows, and `absent` are identifiers in the
    question that no document has. chat: `messages`. completion: `question`.
    `adapter` is one of the engine's, or empty for the model itself; `tenant` is whose cost it is. An engine ignores
    parameters that have no meaning for it, unless that would break what the caller relies on.
    """

    question: str = ""
    standalone: str = ""
    passages: tuple[PromptPassage, ...] = ()
    messages: tuple[Message, ...] = ()
    answerable: bool | None = None
    absent: tuple[str, ...] = ()
    params: GenerateParams = GenerateParams()
    adapter: str = ""
    tenant: str = "default"
