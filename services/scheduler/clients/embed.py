"""Embeds passages on the batch lane, in messages that fit the broker's limit."""

import asyncio
from typing import Final

from shared.contracts.envelope import Passage, Stop
from shared.runtime.requester import Requester
from shared.tasks import task_group

__all__ = ["PassageEmbedder"]

MESSAGE_BYTES: Final = 300_000
"""Text in one message to the embedder, so that it fits the broker's limit also with vectors."""

WINDOW: Final = 16
"""Messages to the embedder under way at once."""


class PassageEmbedder:
    """One per process; `most` is how many passages one message holds."""

    def __init__(self, stages: Requester, *, most: int) -> None:
        self._stages = stages
        self._most = most
        self._window = asyncio.Semaphore(WINDOW)

    async def embed(
        self, variant: str, tenant: str, collection: str, passages: tuple[Passage, ...]
    ) -> tuple[Passage, ...]:
        """The passages with their vectors, in their order. Raises the stage's Problem, or one that may pass."""
        stop = Stop(stage="embed", variant=variant, params={"target": "passages"})

        async def embed(group: tuple[Passage, ...]) -> tuple[Passage, ...]:
            # Only what the embedder needs travels: the texts.
            bare = tuple(p.model_copy(update={"metadata": {}}) for p in group)
            async with self._window:
                made = await self._stages.ask(stop, tenant=tenant, collection=collection, passages=bare)
            return tuple(
                passage.model_copy(update={"vector": embedded.vector})
                for passage, embedded in zip(group, made.passages, strict=True)
            )

        async with task_group() as tasks:
            groups = [tasks.create_task(embed(group)) for group in self._groups(passages)]
        return tuple(passage for group in groups for passage in group.result())

    def _groups(self, passages: tuple[Passage, ...]) -> list[tuple[Passage, ...]]:
        groups: list[list[Passage]] = []
        size = MESSAGE_BYTES
        for passage in passages:
            length = len(passage.text.encode())
            if size + length > MESSAGE_BYTES or len(groups[-1]) >= self._most:
                groups.append([])
                size = 0
            groups[-1].append(passage)
            size += length
        return [tuple(group) for group in groups]
