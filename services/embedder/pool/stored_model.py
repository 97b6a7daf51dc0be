"""One model of the store in memory: what embeds with it, or reranks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from nats.errors import Error as NatsError

from services.embedder.model.batches import EmbeddingBatches
from services.embedder.model.config import ModelConfig
from services.embedder.model.model import EmbeddingModel
from services.embedder.model.priority_lock import PriorityLock
from services.embedder.pool.pool import Pool
from services.embedder.reranking import CrossEncoderConfig, LateInteractionConfig, Reranker, create_reranker
from services.embedder.reranking.budget import BudgetedReranker
from shared.contracts.models import Model, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.panics import is_end
from shared.reasons import told
from shared.runtime.device import SharedDevice
from shared.stores.model_folder import ModelFolder

__all__ = ["ModelKey", "StoredModel", "StoredModels", "stored_models"]

TOKEN_CACHE: Final = 32 * 2**20
"""Bytes of token vectors of passages that a stored model keeps where it reranks."""


class ModelKey(NamedTuple):
    """A model of a tenant's. The other tenants have no such model."""

    tenant: str
    name: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """`embedding` is None for a model that only reranks. Either kind reranks: an embedder by late interaction."""

    name: str
    kind: ModelKind
    embedding: EmbeddingBatches | None
    reranker: Reranker
    budgeted: BudgetedReranker

    @property
    def batches(self) -> EmbeddingBatches:
        """Raises Problem INVALID_REQUEST."""
        if self.embedding is None:
            raise Problem(ProblemType.INVALID_REQUEST, f"The model '{self.name}' is a {self.kind}: it cannot embed.")
        return self.embedding


StoredModels = Pool[ModelKey, StoredModel]


def stored_models(
    folder: ModelFolder, config: ModelConfig, *, most: int, turns: PriorityLock, device: SharedDevice
) -> StoredModels:
    """A pool of stored models, which compute as `config` says. All take turns, so that questions go before documents
    whichever model they are for."""

    @asynccontextmanager
    async def opened(key: ModelKey) -> AsyncIterator[StoredModel]:
        async with AsyncExitStack() as stack:
            try:
                model, path = await folder.fetch(key.tenant, key.name)
                loaded = await _load(model, path, _Place(config, turns, device), stack)
            except (NatsError, TimeoutError) as error:
                detail = f"The broker did not give the model '{key.name}': {error!r}"
                raise Problem(ProblemType.BROKER_UNAVAILABLE, detail) from error
            except Problem as problem:
                raise problem if problem.kind is ProblemType.MODEL_NOT_FOUND else _unavailable(key, problem) from None
            except BaseException as error:
                if is_end(error):
                    raise
                raise _unavailable(key, error) from error
            yield loaded

    return Pool(opened, most=most)


def _unavailable(key: ModelKey, error: BaseException) -> Problem:
    reason = error.detail if isinstance(error, Problem) else told(f"{type(error).__name__}: {error}")
    return Problem(ProblemType.MODEL_UNAVAILABLE, f"The model '{key.name}' cannot be loaded. {reason}")


class _Place(NamedTuple):
    """How, and beside what, models compute."""

    config: ModelConfig
    turns: PriorityLock
    device: SharedDevice


async def _load(model: Model, path: Path, place: _Place, stack: AsyncExitStack) -> StoredModel:
    match model.kind:
        case ModelKind.EMBEDDER:
            config = replace(place.config, name=str(path), revision=None)
            loaded = await asyncio.to_thread(_ready, config, model.name, place.turns)
            batches = EmbeddingBatches(loaded, place.device)
            embedding: EmbeddingBatches | None = await stack.enter_async_context(batches.running())
            reranker = create_reranker(LateInteractionConfig(cache_bytes=TOKEN_CACHE), loaded)
        case ModelKind.RERANKER:
            embedding = None
            reranker = create_reranker(_cross_encoder(path, place.config), None)
            stack.push_async_callback(reranker.close)
            await reranker.start()
        case ModelKind.ADAPTER:
            detail = "It is an adapter for a language model, which the generator's engine loads."
            raise Problem(ProblemType.INVALID_REQUEST, detail)
    reranker.model = model.name
    return StoredModel(
        name=model.name,
        kind=model.kind,
        embedding=embedding,
        reranker=reranker,
        budgeted=BudgetedReranker(reranker),
    )


def _ready(config: ModelConfig, name: str, turns: PriorityLock) -> EmbeddingModel:
    model = EmbeddingModel.load(config, name=name, turns=turns)
    model.warm_up()
    return model


def _cross_encoder(path: Path, config: ModelConfig) -> CrossEncoderConfig:
    return CrossEncoderConfig(
        model=str(path),
        device=config.device,
        backend=config.backend,
        dtype=config.dtype,
        threads=config.threads,
        batch_tokens=config.batch_tokens,
        batch_rows=config.batch_rows,
    )
