"""The embedder: takes `query.embed` and `query.rerank`, both lanes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.embedder.model.loader import check_installed
from services.embedder.model.model import EmbeddingModel
from services.embedder.model.priority_lock import PriorityLock
from services.embedder.model.torch_extra import TorchMissingError, require_torch
from services.embedder.pool.stored_model import StoredModels, stored_models
from services.embedder.reranking import (
    CrossEncoderConfig,
    LateInteractionConfig,
    RemoteConfig,
    RerankerConfig,
    create_reranker,
)
from services.embedder.settings import EmbedderSettings
from services.embedder.stages.embed import STAGE, Embedding
from services.embedder.stages.rerank import Reranking
from shared.contracts.envelope import Passage, Query, Stop
from shared.runtime.device import SharedDevice
from shared.runtime.stage import Stage
from shared.service.imports import uncollected
from shared.service.service import ASGIApp, Service
from shared.stores.model_folder import ModelFolder, writable_folder
from shared.stores.models import ModelStore

__all__ = ["make"]

CANARY = Query(
    id="canary",
    asked_at=0,
    deadline=0,
    reply="-",
    slip=(),
    question="What sings in the mine?",
    passages=(Passage(id="0", document_id="0", document="canary", position=0, text="The canary sings in the mine."),),
)


def make(settings: EmbedderSettings) -> tuple[Service, ASGIApp]:
    """The service and its ASGI app. Exits with a message when the reranker lacks a setting, or a package is missing."""
    config = _reranker_config(settings)
    try:
        _check_packages(settings, config)
    except TorchMissingError as error:
        raise SystemExit(f"embedder: {error}") from None

    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[Sequence[Stage]]:
        model = await _model(settings) if _needs_model(settings, config) else None
        turns = PriorityLock() if model is None else model.turns
        device = SharedDevice(STAGE)
        pool = _models(settings, ModelStore(service.bus.jetstream), turns, device)
        async with AsyncExitStack() as stack:
            models = await stack.enter_async_context(pool.running())
            stages = []
            if model is not None and settings.embedder_serves.embeds:
                embedding = Embedding(
                    model,
                    models,
                    device=device,
                    cache_bytes=settings.embedding_cache_mb * 2**20,
                    room=settings.embedder_room,
                )
                stages.append(_embed(settings, model, await stack.enter_async_context(embedding.running())))
            if config is not None:
                stages.append(await stack.enter_async_context(_rerank(settings, config, model, models)))
            yield stages

    service = Service("embedder", settings, setup)
    return service, service.asgi()


def _reranker_config(settings: EmbedderSettings) -> RerankerConfig | None:
    if not settings.embedder_serves.reranks:
        return None
    try:
        return settings.reranker_config
    except ValueError as error:
        raise SystemExit(f"embedder: {error}") from None


def _check_packages(settings: EmbedderSettings, config: RerankerConfig | None) -> None:
    if isinstance(config, CrossEncoderConfig):
        require_torch(f"SLUICE_RERANKER={settings.reranker}")
    if _needs_model(settings, config):
        check_installed(settings.model)


def _needs_model(settings: EmbedderSettings, config: RerankerConfig | None) -> bool:
    return settings.embedder_serves.embeds or isinstance(config, LateInteractionConfig)


async def _model(settings: EmbedderSettings) -> EmbeddingModel:
    with uncollected():
        model = await asyncio.to_thread(EmbeddingModel.load, settings.model)
    await asyncio.to_thread(model.warm_up)
    return model


def _models(settings: EmbedderSettings, store: ModelStore, turns: PriorityLock, device: SharedDevice) -> StoredModels:
    root = writable_folder(settings.model_cache, settings.data_dir)
    folder = ModelFolder(store, root, max_bytes=settings.model_cache_mb * 2**20)
    return stored_models(folder, settings.model, most=settings.embedder_models, turns=turns, device=device)


def _embed(settings: EmbedderSettings, model: EmbeddingModel, embed: Embedding) -> Stage:
    return Stage(
        name="embed",
        variant=settings.embedding_variant,
        process=embed,
        room=settings.embedder_room,
        batch_room=settings.embedder_batch_room,
        model=_announced(model.name),
    )


@asynccontextmanager
async def _rerank(
    settings: EmbedderSettings, config: RerankerConfig, model: EmbeddingModel | None, models: StoredModels
) -> AsyncIterator[Stage]:
    reranker = create_reranker(config, model)
    variant = settings.rerank_variant or settings.embedding_variant
    # A remote server that is away must not keep the process from embedding.
    canary = None if isinstance(config, RemoteConfig) else CANARY.model_copy(update={"slip": _canary_slip(variant)})
    reranking = Reranking(
        reranker,
        models,
        budget=settings.rerank_budget,
        retrieval_weight=settings.retrieval_weight,
        stored_weights=settings.stored_weights,
        room=settings.rerank_room,
    )
    async with reranking.running() as rerank:
        yield Stage(
            name="rerank",
            variant=variant,
            process=rerank,
            room=settings.rerank_room,
            batch_room=settings.rerank_batch_room,
            canary=canary,
            model=reranker.model,
        )


def _canary_slip(variant: str) -> tuple[Stop, ...]:
    return (Stop(stage="rerank", variant=variant, params={"budget": 30.0}),)


def _announced(name: str) -> str:
    """The name to ask for: a model from a folder is called like the folder."""
    return Path(name).name if Path(name).is_dir() else name
