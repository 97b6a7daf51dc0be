"""Models that were trained or imported: immutable files, named after their content."""

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from shared.contracts.envelope import Tenant
from shared.contracts.wire import Wire

__all__ = [
    "ADAPTS",
    "EMBEDS",
    "RERANKS",
    "AdapterBase",
    "MODEL_NAME",
    "Model",
    "ModelFile",
    "ModelKind",
    "ModelName",
    "OptionalModelName",
    "model_hash",
    "model_name",
]

MODEL_NAME: Final = r"^m-[0-9a-f]{12}$"

ModelName = Annotated[str, Field(pattern=MODEL_NAME)]
"""What a model is called: `m-` and the first 12 digits of its hash."""

OptionalModelName = Annotated[str, Field(pattern=r"^(m-[0-9a-f]{12})?$")]
"""A model of the store; empty for the model that a service has of its own."""


class ModelKind(StrEnum):
    """What a model does. `adapter`: LoRA weights for the generator's language model."""

    EMBEDDER = "embedder"
    RERANKER = "reranker"
    ADAPTER = "adapter"


EMBEDS: Final = (ModelKind.EMBEDDER,)
RERANKS: Final = (ModelKind.EMBEDDER, ModelKind.RERANKER)
"""What may embed, and what may rerank: an embedder does so by late interaction."""


ADAPTS: Final = (ModelKind.ADAPTER,)


class ModelFile(Wire):
    """One file. `path` is relative to the model's folder, with slashes; `sha256` is in hexadecimal digits."""

    path: str
    size: int
    sha256: str


class Model(Wire):
    """The record of a model. `hash` is that of all files, see `model_hash`.

    `base` is the model that it was trained from. `job` has made it, `dataset` is the content hash of what it was
    trained on, and `metrics` are figures of its training. `created_at` is in Unix seconds, `by` who asked for it.
    `dimensions` are those of an embedder's vectors.
    """

    name: ModelName
    tenant: Tenant
    kind: ModelKind
    hash: str
    files: Annotated[tuple[ModelFile, ...], Field(min_length=1)]
    base: str = ""
    job: str = ""
    dataset: str = ""
    by: str = ""
    description: str = ""
    dimensions: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    created_at: float

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class AdapterBase(Wire):
    """The language model that an adapter was trained for: what it is called, and the fingerprint of its weights."""

    name: str = ""
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def model_hash(files: Sequence[ModelFile]) -> str:
    """The SHA-256 of the files' paths and hashes, in the order of the paths, as hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.sha256}  {file.path}\n".encode())
    return digest.hexdigest()


def model_name(digest: str) -> str:
    """The name of the model with this hash."""
    return f"m-{digest[:12]}"
