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
    """Parameters of the stop: what to embed, and as what if not as what the target is called."""

    model_config = ConfigDict(frozen=True)

    target: Target = Target.QUESTION
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class _Texts:
    kind: Kind
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Made:
    vector: Vector
    tokens: int


class Embedding:
    """Embeds what comes in together in one call of the model; questions overtake passages between forward passes.

    The tokens that it took, as the model counts them, go into `notes["embed_tokens"]`.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._batchers = {
            lane: Batcher[_Texts, list[_Made]](
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
            made = await self._made(query.lane, params.kind or Kind.QUERY, (query.question,))
            return _noted(query.with_embedding(made[0].vector), made)
        texts = tuple(passage.text for passage in query.passages)
        made = await self._made(query.lane, params.kind or Kind.PASSAGE, texts)
        passages = (
            passage.model_copy(update={"vector": one.vector}) for passage, one in zip(query.passages, made, strict=True)
        )
        return _noted(query.with_passages(passages), made)

    async def _made(self, lane: Lane, kind: Kind, texts: tuple[str, ...]) -> list[_Made]:
        return await self._batchers[lane].submit(_Texts(kind, texts), lane)

    async def _embed(self, items: Sequence[_Texts], *, urgent: bool) -> list[list[_Made]]:
        """One call of the model per kind, off the event loop; the results in the order of the items."""
        results: dict[int, list[_Made]] = {}
        for kind in Kind:
            chosen = [(i, item.texts) for i, item in enumerate(items) if item.kind is kind]
            texts = [text for _, part in chosen for text in part]
            if not texts:
                continue
            vectors, tokens = await asyncio.to_thread(self._model.encode, texts, kind, urgent=urgent)
            made = (
                _Made(row.astype("<f4", copy=False).tobytes(), count)
                for row, count in zip(vectors, tokens, strict=True)
            )
            results.update({i: [next(made) for _ in part] for i, part in chosen})
        return [results.get(i, []) for i in range(len(items))]


def _noted(query: Query, made: Sequence[_Made]) -> Query:
    tokens = sum(one.tokens for one in made)
    return query.model_copy(update={"notes": {**query.notes, "embed_tokens": tokens}})
