"""The rerankers that the tests of this folder run: with real weights, and a real server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.embedder.model.hardware import Backend, Device, Dtype
from services.embedder.model.model import EmbeddingModel, ModelConfig
from services.embedder.reranking import CrossEncoderConfig, LateInteractionConfig, RemoteConfig, create_reranker
from services.embedder.reranking.base import Reranker
from tests.harness.rerank_server import RerankServer
from tests.harness.tiny_cross_encoder import make_cross_encoder


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-encoder that was trained just now."""
    return make_cross_encoder(tmp_path_factory.mktemp("cross-encoder") / "tiny")


@pytest.fixture(scope="session")
def embedding_model() -> EmbeddingModel:
    """In float32, whose vectors are the same in every batch."""
    return EmbeddingModel.load(ModelConfig(device=Device.CPU, dtype=Dtype.FLOAT32))


@asynccontextmanager
async def started(reranker: Reranker) -> AsyncIterator[Reranker]:
    try:
        await reranker.start()
        yield reranker
    finally:
        await reranker.close()


@pytest.fixture(params=["late-interaction", "cross-encoder torch", "cross-encoder openvino", "remote"])
async def reranker(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Reranker]:
    """Each reranker in turn, started."""
    name, _, backend = request.param.partition(" ")
    if name == "late-interaction":
        model = request.getfixturevalue("embedding_model")
        async with started(create_reranker(LateInteractionConfig(), model)) as reranker:
            yield reranker
    elif name == "cross-encoder":
        config = CrossEncoderConfig(
            model=str(request.getfixturevalue("cross_encoder")),
            device=Device.CPU,
            backend=Backend(backend),
            dtype=Dtype.FLOAT32,
        )
        async with started(create_reranker(config, None)) as reranker:
            yield reranker
    else:
        async with RerankServer().run() as server:
            config = RemoteConfig(url=f"{server.url}/v2/rerank", model="m", api_key=SecretStr(server.key))
            async with started(create_reranker(config, None)) as reranker:
                yield reranker
