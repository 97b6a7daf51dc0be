"""What the HTTP API says of models of the store, as typed, immutable models."""

from typing import Annotated

from pydantic import Field

from sluice.api.base import Schema, Sent, Timestamp, closed_set

__all__ = ["MODEL_KINDS", "RegisteredModel", "RegisteredModelFile", "RegisteredModelList"]

MODEL_KINDS = ("embedder", "reranker", "adapter")


class RegisteredModelFile(Schema):
    """A file of a model: its path within it, its bytes and their SHA-256 in hexadecimal digits."""

    path: str
    size: int = 0
    sha256: str = ""


class RegisteredModel(Schema):
    """A model of the store, which never changes: `name` is `m-` and the first 12 digits of its `hash`.

    `base` is the model that it was trained from, `job` has trained it on the data set with the hash `dataset`, and
    `metrics` are figures of its training. `used_by` are the versions of collections, as `<collection>/<version>`, and
    the releases that need it.
    """

    name: str
    kind: Annotated[str, closed_set(*MODEL_KINDS)] = "embedder"
    hash: str = ""
    size: int = 0
    files: tuple[RegisteredModelFile, ...] = ()
    base: str = ""
    job: str = ""
    dataset: str = ""
    by: str = ""
    description: str = ""
    dimensions: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    created_at: Sent[Timestamp] = None
    used_by: tuple[str, ...] = ()


class RegisteredModelList(Schema):
    """The newest first."""

    models: tuple[RegisteredModel, ...] = ()
