"""What can be asked for as a job: one model per kind, told apart by `kind`."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticSerializationError

from shared.contracts.collections import VersionName
from shared.contracts.envelope import Name, Scalar, Wire

__all__ = [
    "KINDS",
    "BatchSpec",
    "CommandSpec",
    "DeleteSpec",
    "DocumentRef",
    "DropSpec",
    "Endpoint",
    "EvaluateSpec",
    "Executor",
    "FolderSource",
    "IngestSpec",
    "JobSpec",
    "PipelineSpec",
    "PipelineStep",
    "ReindexSpec",
    "Resources",
    "RetryPolicy",
    "S3Source",
    "SwitchSpec",
    "Toleration",
    "decode_spec",
]


class _Spec(Wire):
    """A typing error in a member's name is told and not ignored, where a spec comes in: see `decode_spec`."""

    model_config = ConfigDict(extra="forbid")


class DocumentRef(Wire):
    """One uploaded document: `object` is its name in the uploads bucket, `sha256` the hash of its bytes."""

    name: str
    object: str
    sha256: str
    bytes: int
    media_type: str | None = None
    metadata: dict[str, Scalar] = {}


class FolderSource(_Spec):
    """A folder that the scheduler can read. `pattern` is a glob relative to it."""

    type: Literal["folder"] = "folder"
    path: str
    pattern: str = "**/*"


class S3Source(_Spec):
    """A bucket of an S3-compatible store. Credentials come from the scheduler's environment, never with a job."""

    type: Literal["s3"] = "s3"
    bucket: str
    prefix: str = ""
    endpoint: str | None = None


class IngestSpec(_Spec):
    """Parse, chunk, embed and index documents, each replacing an earlier version of the same name.

    They were uploaded (`documents`), or are listed in a `source` and compared with what is in the collection; there,
    `prune` also removes what came from the source and is no longer there. `metadata` is for all documents of a source.
    """

    kind: Literal["ingest"] = "ingest"
    collection: str
    documents: tuple[DocumentRef, ...] = ()
    source: Annotated[FolderSource | S3Source, Field(discriminator="type")] | None = None
    prune: bool = False
    metadata: dict[str, Scalar] = {}


class DeleteSpec(_Spec):
    """Remove these documents (by id) from a collection."""

    kind: Literal["delete"] = "delete"
    collection: str
    documents: tuple[str, ...]


class DropSpec(_Spec):
    """Remove a deleted collection: the live version's `table` and the `others`, with their document records and the
    originals of the collection's `id`. With a `version` only this one, whose `table` nobody can go back to."""

    kind: Literal["drop"] = "drop"
    collection: str
    table: str
    others: tuple[str, ...] = ()
    id: str = ""
    version: str | None = None


class ReindexSpec(_Spec):
    """Build a new version of a collection beside the live one, with other chunking or another embedding variant.

    What is not said stays as it is in the live one. With `switch` the new one becomes the live one in the end;
    otherwise a `switch` job makes it so. `keep` is how many versions stay for a rollback, and how many of those that
    were never live.
    """

    kind: Literal["reindex"] = "reindex"
    collection: str
    version: VersionName | None = None
    chunk_tokens: int | None = Field(None, ge=32, le=8192)
    chunk_overlap: int | None = Field(None, ge=0)
    embedding_variant: Name | None = None
    switch: bool = True
    keep: int = Field(1, ge=0, le=20)


class SwitchSpec(_Spec):
    """Make another version of a collection the live one, once it has the same documents; without a `version` the one
    that was live before: a rollback. `keep` is as for `reindex`."""

    kind: Literal["switch"] = "switch"
    collection: str
    version: VersionName | None = None
    keep: int = Field(1, ge=0, le=20)


class Endpoint(StrEnum):
    """What each line of a batch is a request to."""

    QUERY = "/v1/query"
    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"


class BatchSpec(_Spec):
    """Answer every line of a JSONL file on the batch lane; results come as JSONL, in any order, by `custom_id`.

    `input` names an artifact. Lines are OpenAI's: {"custom_id", "method", "url", "body"}; a line without a `url` is a
    body for `endpoint`.
    """

    kind: Literal["batch"] = "batch"
    input: str
    endpoint: Endpoint = Endpoint.QUERY
    concurrency: int = Field(16, ge=1, le=256)


class EvaluateSpec(_Spec):
    """Ask a set of questions and compare with what was expected.

    `input` names an artifact: JSONL of {"question", "sources": [document names], "answer"?}. `version` asks that
    version of the collection instead of the live one. With `answers` each question goes through the whole `pipeline`,
    otherwise it is only embedded and searched for, as `mode` says: hybrid, vector or text.
    """

    kind: Literal["evaluate"] = "evaluate"
    input: str
    collection: str = "default"
    version: VersionName | None = None
    top_k: int = Field(10, ge=1, le=100)
    mode: Literal["hybrid", "vector", "text"] = "hybrid"
    answers: bool = False
    pipeline: str | None = None
    concurrency: int = Field(8, ge=1, le=256)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pipeline is not None and not self.answers:
            raise ValueError("a pipeline is for evaluations with answers")
        if self.mode != "hybrid" and self.answers:
            raise ValueError("with answers the pipeline says how to search: leave out 'mode'")
        return self


Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?)?$")]
"""An amount as Kubernetes writes it: "500m", "2", "16Gi"."""


class Executor(StrEnum):
    """Where a command runs: as a process beside the scheduler, or as a Kubernetes Job; auto: that one in a cluster."""

    AUTO = "auto"
    PROCESS = "process"
    KUBERNETES = "kubernetes"


class Resources(_Spec):
    """What a command needs, as Kubernetes quantities; `gpus` are whole ones of the resource `gpu`."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    gpus: int = Field(0, ge=0, le=64)
    gpu: str = "nvidia.com/gpu"


class Toleration(_Spec):
    """A taint of nodes that a command may run on nevertheless, as Kubernetes writes it."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: int | None = None  # noqa: N815


class CommandSpec(_Spec):
    """Run a program: an image and its arguments on Kubernetes, or the arguments as a process of the scheduler's host.

    `completions` above 1 makes an Indexed Job: that many Pods, each with its JOB_COMPLETION_INDEX, `parallelism` at
    once. Up to `backoff_limit` of its Pods may fail and are started again; `ttl_seconds` after its end a Kubernetes Job
    is removed. The members of each JSON object that a command prints behind `::output::` become outputs of the job.
    """

    kind: Literal["command"] = "command"
    image: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    executor: Executor = Executor.AUTO
    resources: Resources = Resources()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    service_account: str | None = None
    completions: int = Field(1, ge=1, le=1000)
    parallelism: int = Field(1, ge=1, le=1000)
    backoff_limit: int = Field(0, ge=0, le=10)
    ttl_seconds: int = Field(3600, ge=60, le=30 * 86400)


class RetryPolicy(_Spec):
    """How often a job is tried, and how long it rests between: `delay` seconds, twice as long each time, at most
    `max_delay`, each between half and the whole of it by chance."""

    limit: int = Field(5, ge=1, le=100)
    delay: float = Field(1.0, gt=0, le=3600)
    max_delay: float = Field(300.0, gt=0, le=86400)


class PipelineStep(_Spec):
    """One step: a job spec whose strings may refer to parameters and to outputs of earlier steps as `${{ ... }}`.

    `needs` are steps that must have ended first; what a step refers to is needed too. `when` is a condition over the
    same names; a step whose condition is false is skipped, and so are those that need its outputs. `each` fans out
    over a list, `parallel` jobs at once, with `item` and `index` as names. `timeout` (seconds) counts from the step's
    start. With `cache`, a step whose spec and input artifacts are those of an earlier success is not run again. The
    pipeline goes on after the failure of a step with `allow_failure`.
    """

    job: dict[str, JsonValue]
    needs: tuple[str, ...] = ()
    when: str | None = None
    each: JsonValue = None
    parallel: int = Field(8, ge=1, le=64)
    retry: RetryPolicy | None = None
    timeout: float | None = Field(None, gt=0)
    cache: bool = False
    allow_failure: bool = False

    @field_validator("when", mode="before")
    @classmethod
    def _written(cls, when: object) -> object:
        """`when: false` switches a step off."""
        return str(when).lower() if isinstance(when, bool) else when


class PipelineSpec(_Spec):
    """A graph of jobs."""

    kind: Literal["pipeline"] = "pipeline"
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    parameters: dict[str, JsonValue] = {}
    steps: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")], PipelineStep], Field(min_length=1)]
    outputs: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if len(self.steps) > 200:
            raise ValueError("a pipeline has at most 200 steps")
        return self


JobSpec = (
    IngestSpec
    | DeleteSpec
    | DropSpec
    | ReindexSpec
    | SwitchSpec
    | BatchSpec
    | EvaluateSpec
    | CommandSpec
    | PipelineSpec
)
_specs: TypeAdapter[JobSpec] = TypeAdapter(Annotated[JobSpec, Field(discriminator="kind")])

KINDS: Final[tuple[str, ...]] = (
    "ingest",
    "delete",
    "drop",
    "reindex",
    "switch",
    "batch",
    "evaluate",
    "command",
    "pipeline",
)


def decode_spec(data: bytes | dict[str, Any], *, lenient: bool = False) -> JobSpec:
    """Raises pydantic.ValidationError for anything that is no job spec.

    What comes as bytes was checked by whoever wrote it, who may be of the next version: members that are not known here
    are ignored. Of a dict, which a person may have written, they are errors, unless it is to be lenient.
    """
    if isinstance(data, bytes):
        return _specs.validate_json(data, extra="ignore")
    spec: JobSpec = _specs.validate_python(data, extra="ignore" if lenient else None)
    try:
        spec.model_dump_json()
    except PydanticSerializationError:
        # YAML and expressions can make halves of characters, which no JSON carries.
        broken = PydanticCustomError("text", "has text that is not valid Unicode")
        raise ValidationError.from_exception_data("job", [{"type": broken, "input": data}]) from None
    return spec
