"""Releases: what answers a collection, immutable and named after its content, and where each stands.

A release is a version of the collection (its table, chunking, models and options of retrieval) with the pipeline, the
prompt templates and the generators that were known. What it says never changes; only its events grow. Whether it is
live is told by the collection: its live version names the release that it is.
"""

import hashlib
import json
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import Field, JsonValue

from shared.contracts.collections import Collection, CollectionVersion
from shared.contracts.envelope import Stop, Tenant
from shared.contracts.models import Model, ModelKind, ModelName
from shared.contracts.retrieval import RetrievalOptions
from shared.contracts.wire import Wire

if TYPE_CHECKING:
    from shared.contracts.jobs import Job  # whose kinds name releases

__all__ = [
    "ALIAS",
    "RELEASE_NAME",
    "DatasetOrigin",
    "Evaluation",
    "Generator",
    "ModelOrigin",
    "Release",
    "ReleaseContent",
    "ReleaseEvent",
    "ReleaseImport",
    "ReleaseName",
    "ReleaseSigner",
    "ReleaseStage",
    "release_name",
]

RELEASE_NAME: Final = r"^r-[0-9a-f]{12}$"
ALIAS: Final = r"^[a-z][a-z0-9_-]{0,31}$"

ReleaseName = Annotated[str, Field(pattern=RELEASE_NAME)]
"""What a release is called: `r-` and the first 12 digits of its hash."""


class ReleaseStage(StrEnum):
    """`candidate`: has not answered anybody. `canary`: answers a share of the questions. `live`: answers the others.
    `archived`: was live, or was put aside."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    LIVE = "live"
    ARCHIVED = "archived"


class Generator(Wire):
    """A variant of the stage `generate` when the release was made: its model or adapter, and its share of queries."""

    variant: str
    model: str = ""
    weight: float = 0.0


class ReleaseContent(Wire):
    """What a release is; its hash is the release's name. Models are named with their whole hashes.

    `stops` are those of the pipeline, with their parameters. `templates` are prompt templates by their file names.
    """

    collection: str
    collection_id: str
    version: str
    table: str
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
    stops: tuple[Stop, ...] = ()
    templates: dict[str, str] = Field(default_factory=dict)
    generators: tuple[Generator, ...] = ()

    @classmethod
    def of(cls, collection: Collection, version: CollectionVersion, **more: object) -> Self:
        """That of a version of a collection as it is now."""
        return cls.model_validate(
            {
                "collection": collection.name,
                "collection_id": collection.id,
                "version": version.name,
                "table": version.table,
                "chunk_tokens": version.chunk_tokens,
                "chunk_overlap": version.chunk_overlap,
                "embedding_variant": version.embedding_variant,
                "embedding_model": version.embedding_model,
                "retrieval": version.retrieval.as_params(),
                "rerank_candidates": version.rerank_candidates,
                "rerank_model": version.rerank_model,
                "adapter": version.adapter,
                "pipeline": collection.pipeline,
                **more,
            }
        )

    @property
    def models(self) -> frozenset[str]:
        """The models of the store that it needs."""
        return frozenset({self.embedding_model, self.rerank_model, self.adapter} - {""})

    @property
    def hash(self) -> str:
        """The SHA-256 of all that it says, as hexadecimal digits."""
        members = self.model_dump(mode="json")
        if not self.adapter:
            members = {name: value for name, value in members.items() if name not in LATER}
        said = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(said.encode()).hexdigest()


LATER: Final = ("adapter", "adapter_hash")
"""Members that releases did not always have: without an adapter a release is called what it was called before."""


class DatasetOrigin(Wire):
    """The data set that a model was trained on: the `job` that made it, its content hash and what is known of it."""

    job: str = ""
    hash: str = ""
    manifest: dict[str, JsonValue] = Field(default_factory=dict)


class ModelOrigin(Wire):
    """Where a model of a release is from; `train` is the spec of the job that trained it, empty where none did or
    nobody remembers it."""

    name: ModelName
    kind: ModelKind
    hash: str
    base: str = ""
    job: str = ""
    by: str = ""
    created_at: float = 0.0
    metrics: dict[str, float] = Field(default_factory=dict)
    train: dict[str, JsonValue] = Field(default_factory=dict)
    dataset: DatasetOrigin = DatasetOrigin()

    @classmethod
    def of(cls, model: Model) -> Self:
        members = model.model_dump(include={"name", "kind", "hash", "base", "job", "by", "created_at", "metrics"})
        return cls.model_validate({**members, "dataset": {"hash": model.dataset}})


class Evaluation(Wire):
    """A job that has measured the release's version, and its figures."""

    job: str
    metrics: dict[str, JsonValue] = Field(default_factory=dict)


class ReleaseEvent(Wire):
    """A change of where a release stands: who made it and why, and the job that did. `at` is in Unix seconds."""

    at: float
    stage: ReleaseStage
    by: str = ""
    reason: str = ""
    job: str = ""

    @classmethod
    def of_job(cls, job: "Job", stage: ReleaseStage, reason: str = "") -> Self:
        """That a job makes now."""
        return cls(at=time.time(), stage=stage, by=job.options.by, reason=reason, job=job.id)


class ReleaseSigner(Wire):
    """A key that has signed a release: its id, the SHA-256 of its DER form in hexadecimal digits, and what the gateway
    that verified the signature calls it."""

    key: str
    name: str = ""


class ReleaseImport(Wire):
    """What is remembered of an archive that was imported: the release it was, what that says, and whose keys had signed
    it. `created_at` is in Unix seconds."""

    name: ReleaseName
    tenant: Tenant
    content: ReleaseContent
    signed_by: tuple[ReleaseSigner, ...] = ()
    created_at: float
    by: str = ""

    def signers_of(self, made: ReleaseContent) -> tuple[ReleaseSigner, ...]:
        """Those whose signatures hold for a release that was made of the import: none where it has other models,
        templates or settings."""
        same = all(getattr(made, name) == getattr(self.content, name) for name in CARRIED)
        return self.signed_by if same else ()


CARRIED: Final = (
    "chunk_tokens",
    "chunk_overlap",
    "embedding_hash",
    "retrieval",
    "rerank_hash",
    "adapter_hash",
    "templates",
)
"""Members of a release's content that an import brings."""


class Release(Wire):
    """The record of a release. All but its events and its description of the day was decided when it was made.

    `imported_from` is the release of another installation whose models and settings it has, and `signed_by` are the
    keys that had signed that one.
    """

    name: ReleaseName
    tenant: Tenant
    hash: str
    content: ReleaseContent
    models: tuple[ModelOrigin, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    imported_from: str = ""
    signed_by: tuple[ReleaseSigner, ...] = ()
    created_at: float
    by: str = ""
    description: str = ""
    events: tuple[ReleaseEvent, ...] = ()

    def stage(self, collection: Collection | None, now: float) -> ReleaseStage:
        """Where it stands, by its collection as it is; None where that is gone."""
        if collection is not None and collection.id == self.content.collection_id:
            if collection.live.release == self.name:
                return ReleaseStage.LIVE
            canary = collection.canary
            tried = None if canary is None or canary.until <= now else collection.find(canary.version)
            if tried is not None and tried.release == self.name:
                return ReleaseStage.CANARY
            own = collection.find(self.content.version)
            if own is not None and own.release == self.name and own.retired_at is not None:
                return ReleaseStage.ARCHIVED
        put_aside = any(event.stage in (ReleaseStage.LIVE, ReleaseStage.ARCHIVED) for event in self.events)
        return ReleaseStage.ARCHIVED if put_aside else ReleaseStage.CANDIDATE

    def noting(self, event: ReleaseEvent) -> Self:
        """With one event more, unless the same job has noted the same already."""
        if event.job and any((known.job, known.stage) == (event.job, event.stage) for known in self.events):
            return self
        return self.model_copy(update={"events": (*self.events, event)[-MOST_EVENTS:]})

    def signed_with(self, *signers: ReleaseSigner) -> Self:
        """With the signers whose keys it does not name yet; itself where there are none."""
        known = {signer.key for signer in self.signed_by}
        new = tuple(signer for signer in signers if signer.key not in known)
        return self.model_copy(update={"signed_by": (*self.signed_by, *new)}) if new else self

    @property
    def live_at(self) -> float:
        """When it became live last; 0 for never."""
        return max((event.at for event in self.events if event.stage is ReleaseStage.LIVE), default=0.0)


MOST_EVENTS: Final = 200


def release_name(digest: str) -> str:
    """The name of the release with this hash."""
    return f"r-{digest[:12]}"
