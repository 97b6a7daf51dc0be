"""The stage `embed`: adds the vector of the question, or the vectors of the passages."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Self

from pydantic import BaseModel, ConfigDict

from services.embedder.model import EmbeddingModel, Kind
from shared.batching import Batcher
from shared.envelope import Lane, Query, Vector
from shared.stage import Context

__all__ = ["EmbedParams", "Embedding", "Target"]

BATCH_ITEMS = 256


class Target(StrEnum):
    QUESTION = "question"
    PASSAGES = "passages"


class EmbedParams(BaseModel):
    """Parameters of the stop: what to embed."""

    model_config = ConfigDict(frozen=True)

    target: Target = Target.QUESTION


@dataclass(frozen=True, slots=True)
class _Texts:
    kind: Kind
    texts: tuple[str, ...]


class Embedding:
    """Embeds what comes in together in one call of the model; questions overtake passages between forward passes."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._batchers = {
            lane: Batcher[_Texts, list[Vector]](
                partial(self._embed, urgent=lane is Lane.INTERACTIVE),
                name=f"embed {lane}",
                max_items=BATCH_ITEMS,
                max_cost=BATCH_ITEMS,
                cost=lambda item: len(item.texts),
            )
            for lane in Lane
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with AsyncExitStack() as stack:
            for batcher in self._batchers.values():
                await stack.enter_async_context(batcher.running())
            yield self

    async def __call__(self, query: Query, context: Context) -> Query:
        params = EmbedParams.model_validate(context.params)
        if params.target is Target.QUESTION:
            vectors = await self._vectors(query.lane, Kind.QUERY, (query.question,))
            return query.with_embedding(vectors[0])
        vectors = await self._vectors(query.lane, Kind.PASSAGE, tuple(p.text for p in query.passages))
        return query.with_passages(
            passage.model_copy(update={"vector": vector})
            for passage, vector in zip(query.passages, vectors, strict=True)
        )

    async def _vectors(self, lane: Lane, kind: Kind, texts: tuple[str, ...]) -> list[Vector]:
        return await self._batchers[lane].submit(_Texts(kind, texts), lane)

    async def _embed(self, items: Sequence[_Texts], *, urgent: bool) -> list[list[Vector]]:
        """One call of the model per kind, off the event loop; the results in the order of the items."""
        made: dict[int, list[Vector]] = {}
        for kind in Kind:
            chosen = [(i, item.texts) for i, item in enumerate(items) if item.kind is kind]
            texts = [text for _, part in chosen for text in part]
            if not texts:
                continue
            array = await asyncio.to_thread(self._model.embed, texts, kind, urgent=urgent)
            vectors = iter(row.astype("<f4", copy=False).tobytes() for row in array)
            made.update({i: [next(vectors) for _ in part] for i, part in chosen})
        return [made.get(i, []) for i in range(len(items))]
