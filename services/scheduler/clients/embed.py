"""Embeds passages on the batch lane, in messages that fit the broker's limit."""

from collections.abc import Iterator
from typing import Final

from shared.contracts.envelope import Passage, Stop
from shared.fairness import FairShare, FairSlots, Weights
from shared.groups import groups
from shared.runtime.requester import Requester
from shared.tasks import task_group

__all__ = ["FLOAT_BYTES", "PassageEmbedder"]

MESSAGE_BYTES: Final = 300_000
"""Text in one message to the embedder, so that it fits the broker's limit also with vectors."""

FLOAT_BYTES: Final = 4
"""Of each component of a vector, as it travels."""

WINDOW: Final = 16
"""Messages to the embedder under way at once."""


class PassageEmbedder:
    """One per process; `most` is how many passages one message holds. Tenants share the messages under way."""

    def __init__(self, stages: Requester, *, most: int, weights: Weights | None = None) -> None:
        self._stages = stages
        self._most = most
        self._window = FairSlots(FairShare(WINDOW, weights=weights))

    async def embed(
        self, stop: Stop, tenant: str, collection: str, passages: tuple[Passage, ...]
    ) -> tuple[Passage, ...]:
        """The passages with the vectors that the stop makes, in their order. Raises the stage's Problem, or one that
        may pass."""
        stop = stop.with_params(target="passages")

        async def embed(group: tuple[Passage, ...]) -> tuple[Passage, ...]:
            # Only what the embedder needs travels: the texts.
            bare = tuple(p.model_copy(update={"metadata": {}}) for p in group)
            async with self._window.slot(tenant):
                made = await self._stages.ask(stop, tenant=tenant, collection=collection, passages=bare)
            return tuple(
                passage.model_copy(update={"vector": embedded.vector})
                for passage, embedded in zip(group, made.passages, strict=True)
            )

        async with task_group() as tasks:
            embedded = [tasks.create_task(embed(group)) for group in self._messages(passages)]
        return tuple(passage for group in embedded for passage in group.result())

    def _messages(self, passages: tuple[Passage, ...]) -> Iterator[tuple[Passage, ...]]:
        return groups(passages, lambda p: len(p.text.encode()), most=self._most, most_size=MESSAGE_BYTES)
