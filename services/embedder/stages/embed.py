"""The stage `embed`: adds the vector of the question, or the vectors of the passages."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, Self

import numpy as np
from opentelemetry.trace import Span
from pydantic import BaseModel, ConfigDict

from services.embedder.model.model import EmbeddingModel, Kind
from services.embedder.model.question_cache import Question, QuestionCache
from shared.contracts.envelope import Lane, Query, Vector
from shared.runtime.batching import Batcher
from shared.runtime.device import SharedDevice
from shared.runtime.stage import Context
from shared.telemetry.metrics import TENANT_TOKENS, tenants
from shared.telemetry.tracing import tracer

__all__ = ["EmbedParams", "Embedding", "Target"]

BATCH_ITEMS = 256

QUESTION_SHARE: Final = 0.5
"""Of the question's own vector in that which is searched for, where the question is expanded."""


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
    tenant: str


@dataclass(frozen=True, slots=True)
class _Made:
    vector: Vector
    tokens: int


class Embedding:
    """Embeds what comes in together in one call of the model; questions overtake passages between forward passes.

    Vectors of questions are kept in at most `cache_bytes`. The tokens of the texts, as the model counts them, go into
    `notes["embed_tokens"]`, also where their vectors were known.
    """

    def __init__(self, model: EmbeddingModel, *, cache_bytes: int = 0) -> None:
        self._model = model
        self._questions = QuestionCache[list[_Made]](cache_bytes, lambda made: sum(len(one.vector) for one in made))
        self._device = SharedDevice("embed")
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
            made = await self._of_question(query, params.kind or Kind.QUERY)
            first, *others = (one.vector for one in made)
            return _noted(query.with_embedding(_mixed(first, others) if others else first), made)
        texts = tuple(passage.text for passage in query.passages)
        made = await self._made(query, params.kind or Kind.PASSAGE, texts)
        passages = (
            passage.model_copy(update={"vector": one.vector}) for passage, one in zip(query.passages, made, strict=True)
        )
        return _noted(query.with_passages(passages), made)

    async def _of_question(self, query: Query, kind: Kind) -> list[_Made]:
        """Of the question, then of what was written about it."""
        if (expansion := query.expansion) is None:
            return await self._known(query, kind, (query.question,))
        made = await self._known(query, kind, (query.question, *expansion.paraphrases))
        return made + (await self._known(query, Kind.PASSAGE, (expansion.passage,)) if expansion.passage else [])

    async def _known(self, query: Query, kind: Kind, texts: tuple[str, ...]) -> list[_Made]:
        """Of texts that may have been asked before, or are asked for now."""
        question = Question(query.tenant, kind, texts)
        return await self._questions.get(question, query.lane, lambda: self._made(query, kind, texts))

    async def _made(self, query: Query, kind: Kind, texts: tuple[str, ...]) -> list[_Made]:
        made = await self._batchers[query.lane].submit(_Texts(kind, texts, query.tenant), query.lane)
        TENANT_TOKENS.labels(tenants.label(query.tenant), "embed").inc(sum(one.tokens for one in made))
        return made

    async def _embed(self, items: Sequence[_Texts], *, urgent: bool) -> list[list[_Made]]:
        """One call of the model per kind, off the event loop; the results in the order of the items."""
        results: dict[int, list[_Made]] = {}
        for kind in Kind:
            chosen = [(i, item.texts) for i, item in enumerate(items) if item.kind is kind]
            texts = [text for _, part in chosen for text in part]
            if not texts:
                continue
            with self._used([item for item in items if item.kind is kind]), self._span(len(texts)) as span:
                vectors, tokens = await asyncio.to_thread(self._model.encode, texts, kind, urgent=urgent)
                span.set_attribute("gen_ai.usage.input_tokens", sum(tokens))
            made = (
                _Made(row.astype("<f4", copy=False).tobytes(), count)
                for row, count in zip(vectors, tokens, strict=True)
            )
            results.update({i: [next(made) for _ in part] for i, part in chosen})
        return [results.get(i, []) for i in range(len(items))]

    @contextmanager
    def _used(self, items: Sequence[_Texts]) -> Iterator[None]:
        """The device works for the items' tenants, for each by the number of its texts."""
        texts = Counter[str]()
        for item in items:
            texts[item.tenant] += len(item.texts)
        with ExitStack() as stack:
            for tenant, count in texts.items():
                stack.enter_context(self._device.used(tenant, count))
            yield

    def _span(self, texts: int) -> AbstractContextManager[Span]:
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "sluice",
            "gen_ai.request.model": self._model.name,
            "gen_ai.embeddings.dimension.count": self._model.dimension,
            "sluice.texts": texts,
        }
        return tracer.start_as_current_span(f"embeddings {self._model.name}", attributes=attributes)


def _mixed(question: Vector, others: Sequence[Vector]) -> Vector:
    """A vector of length 1 between the question's and the mean of what was written about it."""
    rows = [np.frombuffer(vector, dtype="<f4") for vector in (question, *others)]
    mixed = QUESTION_SHARE * rows[0] + (1 - QUESTION_SHARE) * np.mean(rows[1:], axis=0)
    vector: Vector = (mixed / (np.linalg.norm(mixed) or 1.0)).astype("<f4").tobytes()
    return vector


def _noted(query: Query, made: Sequence[_Made]) -> Query:
    tokens = sum(one.tokens for one in made)
    return query.model_copy(update={"notes": {**query.notes, "embed_tokens": tokens}})
