"""Texts of many queries in one call of a model."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

from opentelemetry.trace import Span

from services.embedder.model.model import EmbeddingModel, Kind
from shared.contracts.envelope import Lane, Vector
from shared.runtime.batching import Batcher
from shared.runtime.device import SharedDevice
from shared.telemetry.tracing import tracer

__all__ = ["EmbeddedText", "EmbeddingBatches"]

BATCH_ITEMS: Final = 256


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """A vector, and the tokens of its text as the model counts them."""

    vector: Vector
    tokens: int


@dataclass(frozen=True, slots=True)
class _Texts:
    kind: Kind
    texts: tuple[str, ...]
    tenant: str


class EmbeddingBatches:
    """Embeds what comes in together in one call of the model; questions overtake passages between forward passes.

    All models of a process share its `device`.
    """

    def __init__(self, model: EmbeddingModel, device: SharedDevice) -> None:
        self._model = model
        self._device = device
        self._batchers = {
            lane: Batcher[_Texts, list[EmbeddedText]](
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

    async def embed(self, texts: tuple[str, ...], kind: Kind, *, tenant: str, lane: Lane) -> list[EmbeddedText]:
        """One for each text, in their order. Raises what the model raises."""
        return await self._batchers[lane].submit(_Texts(kind, texts, tenant), lane)

    async def _embed(self, items: Sequence[_Texts], *, urgent: bool) -> list[list[EmbeddedText]]:
        """One call of the model per kind, off the event loop; the results in the order of the items."""
        results: dict[int, list[EmbeddedText]] = {}
        for kind in Kind:
            chosen = [(i, item.texts) for i, item in enumerate(items) if item.kind is kind]
            texts = [text for _, part in chosen for text in part]
            if not texts:
                continue
            with self._used([item for item in items if item.kind is kind]), self._span(len(texts)) as span:
                vectors, tokens = await asyncio.to_thread(self._model.encode, texts, kind, urgent=urgent)
                span.set_attribute("gen_ai.usage.input_tokens", sum(tokens))
            made = (
                EmbeddedText(row.astype("<f4", copy=False).tobytes(), count)
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
