"""The embedder: takes `query.embed`, both lanes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.embedder.model.model import EmbeddingModel
from services.embedder.settings import EmbedderSettings
from services.embedder.stages.embed import Embedding
from shared.runtime.stage import Stage
from shared.service.imports import uncollected
from shared.service.service import ASGIApp, Service

__all__ = ["make"]


def make(settings: EmbedderSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(_: Service) -> AsyncIterator[Sequence[Stage]]:
        with uncollected():
            model = await asyncio.to_thread(EmbeddingModel.load, settings.model)
        await asyncio.to_thread(model.warm_up)
        async with Embedding(model).running() as embed:
            yield [
                Stage(
                    name="embed",
                    variant=settings.embedding_variant,
                    process=embed,
                    room=settings.embedder_room,
                    batch_room=settings.embedder_batch_room,
                    model=_announced(model.name),
                )
            ]

    service = Service("embedder", settings, setup)
    return service, service.asgi()


def _announced(name: str) -> str:
    """The name to ask for: a model from a folder is called like the folder."""
    return Path(name).name if Path(name).is_dir() else name
