"""Settings of the embedder."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.embedder.model.hardware import Backend, Device, Dtype
from services.embedder.model.model import BUNDLED_MODEL, ModelConfig
from services.embedder.reranking import (
    CrossEncoderConfig,
    LateInteractionConfig,
    RemoteApi,
    RemoteConfig,
    RerankerConfig,
    RerankerName,
)
from services.embedder.reranking.late_interaction import RETRIEVAL_WEIGHT
from shared.contracts.models import ModelKind
from shared.service.settings import ServiceSettings

__all__ = ["EmbedderSettings", "Served"]


class Served(StrEnum):
    """The stages that a process serves."""

    BOTH = "both"
    EMBED = "embed"
    RERANK = "rerank"

    @property
    def embeds(self) -> bool:
        return self is not Served.RERANK

    @property
    def reranks(self) -> bool:
        return self is not Served.EMBED


class RerankSettings(BaseSettings):
    """The stage rerank."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    reranker: RerankerName = Field(
        RerankerName.LATE_INTERACTION,
        description="late-interaction (the embedding model's token vectors), cross-encoder or remote (a server).",
    )
    rerank_model: str = Field("", description="cross-encoder: its folder or name. remote: the model to ask for.")
    rerank_revision: str | None = Field(None, description="cross-encoder: revision of a model on the Hub.")
    rerank_max_tokens: int = Field(0, ge=0, description="cross-encoder: tokens of a pair; 0: what the model takes.")
    rerank_variant: str = Field("", description="Variant of the stage rerank; empty: SLUICE_EMBEDDING_VARIANT.")
    rerank_room: int = Field(16, ge=1, description="Queries that are reranked at once.")
    rerank_batch_room: int = Field(4, ge=1, description="Queries of the batch lane that are reranked at once.")
    rerank_budget: float = Field(0.5, ge=0, description="Seconds for the candidates of a query; the rest stay below.")
    rerank_retrieval_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the retrieval score in a passage's score; none: 0.8 with late-interaction, else 0.",
    )
    rerank_cache_mb: int = Field(256, ge=0, description="late-interaction: MiB of token vectors that are kept.")
    rerank_url: str = Field("", description="remote: the endpoint, such as http://127.0.0.1:8000/v1/rerank.")
    rerank_api: RemoteApi = Field(RemoteApi.COHERE, description="remote: cohere, jina, vllm or tei.")
    rerank_api_key: SecretStr = Field(SecretStr(""), description="remote: the key, where the server wants one.")
    rerank_timeout: float = Field(10.0, gt=0, description="remote: seconds to wait for a response.")
    rerank_retries: int = Field(2, ge=0, description="remote: further tries of a request.")
    rerank_batch: int = Field(32, ge=1, description="remote: passages of one request.")
    rerank_logits: bool = Field(False, description="remote: the server's scores are logits, not 0 to 1.")


class EmbedderSettings(RerankSettings, ServiceSettings):
    embedder_serves: Served = Field(Served.BOTH, description="Stages of this process: both, embed or rerank.")
    embedding_model: str = Field(BUNDLED_MODEL, description="A model name, a folder, or the bundled model.")
    embedding_revision: str | None = Field(None, description="Revision of a model on the Hub.")
    embedding_variant: str = Field("default", description="Variant of the stage that this process serves.")
    device: Device = Field(Device.AUTO, description="auto, cpu, cuda or mps.")
    embedding_backend: Backend = Field(Backend.AUTO, description="auto, openvino (on a CPU) or torch (an extra).")
    dtype: Dtype = Field(Dtype.AUTO, description="auto, float32, bfloat16 or float16.")
    threads: int = Field(0, ge=0, description="CPU threads of one forward pass; 0: all that the container may use.")
    batch_tokens: int = Field(0, ge=0, description="Tokens of one forward pass, padding included; 0: by device.")
    batch_rows: int = Field(256, ge=1, description="Texts of one forward pass.")
    embedder_room: int = Field(64, ge=1, description="Queries in work at once.")
    embedder_batch_room: int = Field(
        16, ge=1, description="Messages with chunks in work at once; half of them make one call of the model."
    )

    embedding_cache_mb: int = Field(16, ge=0, description="MiB of question vectors that are kept; 0: none.")
    embedder_models: int = Field(
        2, ge=1, description="Models of the store in memory beside the process's own; those used longest ago leave."
    )
    model_cache: Path | None = Field(
        None, description="Folder for files of models of the store; none: `model-cache` in the data folder."
    )
    model_cache_mb: int = Field(10_240, ge=0, description="MiB of them that stay; those used longest ago are removed.")

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(
            name=self.embedding_model,
            revision=self.embedding_revision,
            device=self.device,
            backend=self.embedding_backend,
            dtype=self.dtype,
            threads=self.threads,
            batch_tokens=self.batch_tokens,
            batch_rows=self.batch_rows,
        )

    @property
    def retrieval_weight(self) -> float:
        return self._weight(late_interaction=self.reranker is RerankerName.LATE_INTERACTION)

    @property
    def stored_weights(self) -> Mapping[ModelKind, float]:
        """The share of the retrieval score where a model of the store reranks."""
        return {
            ModelKind.EMBEDDER: self._weight(late_interaction=True),
            ModelKind.RERANKER: self._weight(late_interaction=False),
        }

    def _weight(self, *, late_interaction: bool) -> float:
        if self.rerank_retrieval_weight is not None:
            return self.rerank_retrieval_weight
        return RETRIEVAL_WEIGHT if late_interaction else 0.0

    @property
    def reranker_config(self) -> RerankerConfig:
        """Raises ValueError where a setting that the reranker needs is empty."""
        match self.reranker:
            case RerankerName.LATE_INTERACTION:
                return LateInteractionConfig(cache_bytes=self.rerank_cache_mb * 2**20)
            case RerankerName.CROSS_ENCODER:
                return self._cross_encoder
            case RerankerName.REMOTE:
                return self._remote

    @property
    def _cross_encoder(self) -> CrossEncoderConfig:
        if not self.rerank_model:
            raise ValueError("SLUICE_RERANKER=cross-encoder needs SLUICE_RERANK_MODEL, a folder or a name on the Hub")
        return CrossEncoderConfig(
            model=self.rerank_model,
            revision=self.rerank_revision,
            device=self.device,
            backend=self.embedding_backend,
            dtype=self.dtype,
            threads=self.threads,
            batch_tokens=self.batch_tokens,
            batch_rows=self.batch_rows,
            max_tokens=self.rerank_max_tokens,
        )

    @property
    def _remote(self) -> RemoteConfig:
        if not self.rerank_url.startswith(("http://", "https://")):
            raise ValueError("SLUICE_RERANKER=remote needs SLUICE_RERANK_URL, the address of an endpoint")
        return RemoteConfig(
            url=self.rerank_url,
            api=self.rerank_api,
            model=self.rerank_model,
            api_key=self.rerank_api_key,
            timeout=self.rerank_timeout,
            max_retries=self.rerank_retries,
            batch=self.rerank_batch,
            connections=self.rerank_room + self.rerank_batch_room,
            logits=self.rerank_logits,
        )
