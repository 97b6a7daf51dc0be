"""Rerankers: how well each passage answers the question."""

from services.embedder.model.model import EmbeddingModel
from services.embedder.reranking.base import Reranker, RerankerName, Scored
from services.embedder.reranking.cross_encoder import CrossEncoderConfig, CrossEncoderReranker
from services.embedder.reranking.late_interaction import LateInteraction, LateInteractionConfig
from services.embedder.reranking.remote import RemoteApi, RemoteConfig, RemoteReranker

__all__ = [
    "CrossEncoderConfig",
    "LateInteractionConfig",
    "RemoteApi",
    "RemoteConfig",
    "Reranker",
    "RerankerConfig",
    "RerankerName",
    "Scored",
    "create_reranker",
]

RerankerConfig = LateInteractionConfig | CrossEncoderConfig | RemoteConfig


def create_reranker(config: RerankerConfig, model: EmbeddingModel | None) -> Reranker:
    """The reranker that a configuration describes, not started. Late interaction uses `model`, and needs it."""
    match config:
        case LateInteractionConfig():
            if model is None:
                raise ValueError("late interaction needs the embedding model in its process")
            return LateInteraction(model, config)
        case CrossEncoderConfig():
            return CrossEncoderReranker(config)
        case RemoteConfig():
            return RemoteReranker(config)
