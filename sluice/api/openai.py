"""What the OpenAI-compatible API says of models, as typed, immutable models."""

from typing import Literal

from sluice.api.base import Schema

__all__ = ["ModelBody", "ModelPlace"]


class ModelPlace(Schema):
    """Where a model runs: `stage` is `generate`, `embed` or `rerank`, or `collection` for answers from documents."""

    stage: Literal["generate", "embed", "rerank", "collection"]
    variants: list[str] = []


class ModelBody(Schema):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "sluice"
    sluice: ModelPlace
