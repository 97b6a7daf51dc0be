"""What the HTTP API says of releases, as typed, immutable models."""

from typing import Annotated, Any

from pydantic import Field, JsonValue

from sluice.api.base import Schema, Sent, Timestamp, closed_set
from sluice.api.collections import RetrievalOptions
from sluice.api.registry import RegisteredModel

__all__ = [
    "RELEASE_STAGES",
    "STATEMENT",
    "DatasetOrigin",
    "Evaluation",
    "ImportedRelease",
    "Lineage",
    "ModelOrigin",
    "Release",
    "ReleaseContent",
    "ReleaseEvent",
    "ReleaseGenerator",
    "ReleaseList",
    "ReleaseSigner",
    "signed_bytes",
]

STATEMENT = "application/vnd.in-toto+json"
"""The media type of what is signed of a release."""

RELEASE_STAGES = ("candidate", "canary", "live", "archived")
Stage = Annotated[str, closed_set(*RELEASE_STAGES)]


class ReleaseGenerator(Schema):
    """A variant of the stage `generate` when the release was made: its model or adapter, and its share of 1."""

    variant: str
    model: str = ""
    weight: float = 0.0


class ReleaseContent(Schema):
    """What a release is. `stops` are those of its pipeline; `templates` are prompt templates by their file names."""

    collection: str
    version: str = ""
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None
    embedding_variant: str = "default"
    embedding_model: str = ""
    embedding_hash: str = ""
    retrieval: RetrievalOptions = RetrievalOptions()
    rerank_candidates: int = 0
    rerank_model: str = ""
    rerank_hash: str = ""
    adapter: str = ""
    adapter_hash: str = ""
    pipeline: str | None = None
    stops: tuple[dict[str, Any], ...] = ()
    templates: dict[str, str] = Field(default_factory=dict)
    generators: tuple[ReleaseGenerator, ...] = ()


class DatasetOrigin(Schema):
    """The data set that a model was trained on: its job, its content hash, and what its job has written of it."""

    job: str = ""
    hash: str = ""
    manifest: dict[str, JsonValue] = Field(default_factory=dict)


class ModelOrigin(Schema):
    """Where a model of a release is from. `train` is the spec of the job that trained it, empty where that is not
    known."""

    name: str
    kind: str = ""
    hash: str = ""
    base: str = ""
    job: str = ""
    by: str = ""
    created_at: Sent[Timestamp] = None
    metrics: dict[str, float] = Field(default_factory=dict)
    train: dict[str, JsonValue] = Field(default_factory=dict)
    dataset: DatasetOrigin = DatasetOrigin()


class Evaluation(Schema):
    """A job that has measured the release's version, and its figures."""

    job: str
    metrics: dict[str, JsonValue] = Field(default_factory=dict)


class ReleaseEvent(Schema):
    """A change of where a release stands."""

    at: Sent[Timestamp] = None
    stage: Stage = "candidate"
    by: str = ""
    reason: str = ""
    job: str = ""


class ReleaseSigner(Schema):
    """A key that has signed a release: the SHA-256 of its DER form in hexadecimal digits, and its name on the gateway
    that verified the signature."""

    key: str
    name: str = ""


class Release(Schema):
    """What answers a collection, has answered it or may. Its `name` is `r-` and the first 12 digits of its `hash`."""

    name: str
    hash: str = ""
    stage: Stage = "candidate"
    aliases: tuple[str, ...] = ()
    content: ReleaseContent
    models: tuple[ModelOrigin, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    imported_from: str = ""
    signed_by: tuple[ReleaseSigner, ...] = ()
    created_at: Sent[Timestamp] = None
    by: str = ""
    description: str = ""
    events: tuple[ReleaseEvent, ...] = ()


class ReleaseList(Schema):
    """The newest first."""

    releases: tuple[Release, ...] = ()


class Lineage(Schema):
    """Where an answer or a release is from: the version and the release, their models, the jobs that trained these, the
    data sets they were trained on and these data sets' sources.

    `answer` is the id of the answer, "" where a release was asked for. `release` is None where there is none.
    """

    answer: str = ""
    trace_id: Sent[str] = None
    collection: str = ""
    version: str = ""
    release: Release | None = None
    models: tuple[ModelOrigin, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()


class ImportedRelease(Schema):
    """What an archive had: the models, which are stored now, and the settings to reindex a collection with.

    `signed_by` are keys of the gateway that have signed it; none where the gateway asks for none.
    """

    name: str
    content: ReleaseContent
    models: tuple[RegisteredModel, ...] = ()
    signed_by: tuple[ReleaseSigner, ...] = ()


def signed_bytes(statement: bytes) -> bytes:
    """The bytes that a signature of a release's statement is of: the pre-authentication encoding of DSSE."""
    return b"DSSEv1 %d %s %d %s" % (len(STATEMENT), STATEMENT.encode(), len(statement), statement)
