"""How the answers of a generator are reviewed, by its settings."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from services.generator.engines.base import Prepared, PromptPassage
from services.generator.grounding.support import SupportChecker
from services.generator.streaming.review import Review
from shared.contracts.envelope import Query
from shared.contracts.generation import Unsupported

__all__ = ["SupportReview", "shown_passages"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportReview:
    """`policy` is for requests that name none. `embed` returns a query's sentences as vectors; `seconds` bounds it."""

    policy: Unsupported = Unsupported.MARK
    attribute: bool = False
    embed: Callable[[Query, Sequence[str]], Awaitable[Sequence[Sequence[float]]]] | None = None
    seconds: float = 1.0

    def review(self, query: Query, prepared: Prepared, model: str, shown: str) -> Review:
        """That of one answer, after the text that the reader has. An engine without a model quotes."""
        passages = shown_passages(prepared)
        embed = partial(self.embed, query) if self.embed is not None else None
        return Review(
            SupportChecker(passages, embed=embed, seconds=self.seconds),
            [passage.index for passage in passages],
            prepared.prompt.params.unsupported or self.policy,
            attribute=self.attribute,
            quotes=not model,
            shown=shown,
        )


def shown_passages(prepared: Prepared) -> list[PromptPassage]:
    """Those that fitted into the prompt, with the text around them where that fitted too."""
    dropped, joined = set(prepared.context.dropped), set(prepared.context.joined)
    return [
        passage if passage.index in joined else passage.alone
        for passage in prepared.prompt.passages
        if passage.index not in dropped
    ]
