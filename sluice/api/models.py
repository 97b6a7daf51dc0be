"""The HTTP API's objects as typed, immutable models. Fields that a newer Sluice adds are kept."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, WithJsonSchema

from sluice.api.base import Metadata, Schema, Sent, Timestamp, closed_set

__all__ = [
    "Answer",
    "BrokerStatus",
    "Collection",
    "CollectionPage",
    "CollectionVersion",
    "ContextReport",
    "DeadLetter",
    "DeadLetterMessage",
    "Delta",
    "Document",
    "DocumentError",
    "DocumentWarning",
    "ItemWarning",
    "DocumentPage",
    "Done",
    "Event",
    "Job",
    "JobOptions",
    "JobState",
    "JobsStatus",
    "LaneCounts",
    "ModelBody",
    "ModelPlace",
    "Pipeline",
    "ProblemDetails",
    "Progress",
    "Queue",
    "RetrievalOptions",
    "Route",
    "SentenceSupport",
    "ServiceStatus",
    "Source",
    "SourceCopy",
    "Sources",
    "StageStatus",
    "StageTiming",
    "Status",
    "Timings",
    "Usage",
    "Variant",
]


class ProblemDetails(Schema):
    """RFC 9457 problem details; `status` is 0 where no response came."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    instance: str | None = None


class SourceCopy(Schema):
    """Another place of a passage's text."""

    document: str
    document_id: str = ""
    position: int = 0


class SourceNeighbour(Schema):
    """A passage around a source. It may repeat the heading and the end of the passage before it."""

    position: int
    text: str


class Source(Schema):
    """A passage that the answer rests on; `index` is the number that citations in the answer use (from 1).

    `score` is 0 to 1 and can be compared between questions; where reranking has replaced it, `retrieval_score` is what
    the search gave. `similarity` is the cosine to the question, and `coverage` the share of the question's terms that
    the passage holds, by their rarity. `copies` says where else its text is. `context` are passages around it, of the
    same section, that the answer is made from too.
    """

    index: int
    document: str
    document_id: str = ""
    position: int = 0
    text: str
    score: float = 0.0
    retrieval_score: float | None = None
    similarity: float | None = None
    coverage: float | None = None
    copies: tuple[SourceCopy, ...] = ()
    context: tuple[SourceNeighbour, ...] = ()
    metadata: Metadata = Field(default_factory=dict)


class Usage(Schema):
    """Tokens as the engine counts them; `cached_tokens` of the prompt were in its cache already."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class ContextReport(Schema):
    """What of the sources fitted into the model's context window; sources are named by their `index`.

    `dropped` did not fit; of the `shortened` ones only their first sentences did; the `joined` ones are shown with the
    text around them; `dropped_turns` counts the oldest turns of the conversation that were left out. `window` and
    `prompt_tokens` are in tokens; a window of 0 is none.
    """

    window: int = 0
    prompt_tokens: int = 0
    dropped: tuple[int, ...] = ()
    shortened: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    dropped_turns: int = 0


class StageTiming(Schema):
    """How long the query waited for a stage and was worked on there, in milliseconds."""

    stage: str
    variant: str = "default"
    worker: str = ""
    waited_ms: float = 0.0
    worked_ms: float = 0.0


class Timings(Schema):
    total_ms: float = 0.0
    first_delta_ms: float | None = None
    stages: tuple[StageTiming, ...] = ()


class SentenceSupport(Schema):
    """Whether the sources support a sentence of the answer: the cited ones, or all where it cites none.

    `start` and `end` bound it in the answer, like a slice; they are equal where it was left out. `score` is 0 to 1.
    `sources` are those that support it, by their `index`.
    """

    sentence: str
    start: int = 0
    end: int = 0
    supported: bool = True
    score: float = 1.0
    sources: tuple[int, ...] = ()


class Searched(Schema):
    """What was searched for. `paraphrases` and `passage` are what the engine wrote where the pipeline expands."""

    question: str = ""
    paraphrases: tuple[str, ...] = ()
    passage: str = ""


class Done(Schema):
    """The end of a streamed answer. `cited` are the indexes of the sources that its citations name.

    `supported` judges each sentence, by `supported_by`: its `words`, also its `meaning`, or that it `quotes`.
    `confidence` is the probability, 0 to 1, that the best source answers the question, and `answerable` is False where
    none seems to; both are None where nobody can tell. `searched` is None where that was the question as it was asked.
    """

    id: str = ""
    usage: Usage = Usage()
    timings: Timings = Timings()
    engine: str = ""
    model: str = ""
    finish: str = "stop"
    cited: tuple[int, ...] = ()
    supported: tuple[SentenceSupport, ...] = ()
    supported_by: str = ""
    confidence: float | None = None
    answerable: bool | None = None
    searched: Searched | None = None
    context: ContextReport = ContextReport()
    trace_id: Sent[str] = None


class Answer(Done):
    answer: str
    sources: tuple[Source, ...] = ()


class Sources(Schema):
    """What the answer will rest on; comes before the first delta."""

    id: str = ""
    sources: tuple[Source, ...] = ()


class Delta(Schema):
    """The next piece of the answer's text."""

    text: str


Event = Sources | Delta | Done


class RetrievalOptions(BaseModel):
    """How passages are searched and ranked. Options that are None are left to the defaults."""

    model_config = ConfigDict(frozen=True, extra="allow", from_attributes=True)

    mode: Annotated[str, closed_set("hybrid", "vector", "text")] | None = None
    fusion: Annotated[str, closed_set("scores", "rrf")] | None = None
    dense_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    diversity: Annotated[float, Field(ge=0, lt=1)] | None = None
    fold_copies: bool | None = None
    context: Annotated[int, Field(ge=0, le=8)] | None = None


class CollectionVersion(Schema):
    """One way in which a collection's documents are indexed and searched; chunk sizes are in tokens, None for the usual
    ones.

    `rerank_candidates` is how many passages the stage `rerank` chooses from, 0 where only a request or a pipeline asks
    it. Its `job` has built it; `retired_at` is when it was last the live one.
    """

    name: str
    state: Annotated[str, closed_set("building", "ready", "following", "live", "retired", "leaving")] = ""
    documents: int = 0
    chunks: int = 0
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None
    embedding_variant: str = "default"
    retrieval: RetrievalOptions = RetrievalOptions()
    rerank_candidates: int = 0
    created_at: Sent[Timestamp] = None
    retired_at: Timestamp | None = None
    job: str = ""


class Collection(Schema):
    """`version` is the live one of the `versions`, which are listed oldest first."""

    name: str
    description: str = ""
    pipeline: str | None = None
    documents: int = 0
    chunks: int = 0
    created_at: Sent[Timestamp] = None
    version: str = ""
    versions: tuple[CollectionVersion, ...] = ()


class CollectionPage(Schema):
    """One page of a listing; `next` is the `after` of the following page, or None at the end."""

    collections: tuple[Collection, ...] = ()
    next: str | None = None


class DocumentWarning(Schema):
    """What of a document is not in the index, or was guessed: `detail` is a sentence for people."""

    kind: str = ""
    detail: str = ""


class Document(Schema):
    """A document in the index. `allowed` are the principals that may see it, None for everybody.

    `origin` is the folder or bucket that it was read from, as a URL; "" where it was uploaded.
    """

    id: str
    name: str
    sha256: str = ""
    bytes: int = 0
    chunks: int = 0
    media_type: Sent[str] = None
    metadata: Metadata = Field(default_factory=dict)
    indexed_at: Sent[Timestamp] = None
    warnings: tuple[DocumentWarning, ...] = ()
    allowed: tuple[str, ...] | None = None
    origin: str = ""


class DocumentPage(Schema):
    """One page of a listing; `next` is the `after` of the following page, or None at the end."""

    documents: tuple[Document, ...] = ()
    next: str | None = None


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Progress(Schema):
    """How far a job is: `done` of `total` units of its kind, and what it does now.

    Jobs on documents count those: `documents` is the total; the chunks and bytes are those indexed so far. `warned` are
    documents that are in the index, but not all of them.
    """

    done: int = 0
    total: int = 0
    message: str = ""
    documents: int = 0
    indexed: int = 0
    skipped: int = 0
    deleted: int = 0
    failed: int = 0
    warned: int = 0
    chunks: int = 0
    bytes: int = 0

    @property
    def documents_done(self) -> int:
        return self.indexed + self.skipped + self.deleted + self.failed

    @property
    def units(self) -> tuple[int, int]:
        """How many of how many units are done, whatever they are."""
        return (self.documents_done, self.documents) if self.documents else (self.done, self.total)


class DocumentError(Schema):
    document: str
    type: str = ""
    title: str = ""
    detail: str = ""

    @property
    def reason(self) -> str:
        return ": ".join(part for part in (self.title, self.detail) if part) or self.type


class ItemWarning(DocumentWarning):
    """What of one document is not in the index, though the document is."""

    document: str


class JobOptions(Schema):
    """The options of a job. `by` is its submitter, `parent` the pipeline that it is a step of.

    `schedule` is the one whose tick it is.
    """

    priority: str = "normal"
    deadline: Timestamp | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    by: str = ""
    parent: str | None = None
    schedule: str | None = None


class Job(Schema):
    """A job succeeds even where single documents failed: look at `progress.failed` and `errors`.
    `warnings` say what of its documents is not in the index.

    `outputs` are small results; `artifacts` are files that it has made. `name` is that of a pipeline.
    """

    id: str
    kind: str = ""
    state: JobState = JobState.QUEUED
    tenant: str | None = None
    collection: str | None = None
    name: str = ""
    created_at: Timestamp | None = None
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    attempt: int = 0
    progress: Progress = Progress()
    errors: tuple[DocumentError, ...] = ()
    warnings: tuple[ItemWarning, ...] = ()
    error: ProblemDetails | None = None
    options: JobOptions = JobOptions()
    outputs: dict[str, Any] = Field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    cancel_requested: bool = False

    @property
    def finished(self) -> bool:
        return self.state not in (JobState.QUEUED, JobState.RUNNING)


class BrokerStatus(Schema):
    url: str = ""
    version: str = ""


class LaneCounts(Schema):
    interactive: int = 0
    batch: int = 0


Counts = Annotated[
    LaneCounts,
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "integer"}}, mode="serialization"),
]


class TimeBucket(Schema):
    """The messages whose work took more than `over` seconds and at most `up_to`; null is no bound."""

    over: float = 0.0
    up_to: float | None = None
    ended: int = 0


class StageWork(Schema):
    """What a stage of one process has done since the process started: messages that ended, those of them that failed,
    the seconds for which they waited and were in work, and how the latter are spread. The difference between two looks
    gives rates, means and percentiles. Buckets without a message are left out."""

    ended: int = 0
    failed: int = 0
    waited_seconds: float = 0.0
    worked_seconds: float = 0.0
    worked_buckets: tuple[TimeBucket, ...] = ()


class StageStatus(Schema):
    """One stage that a service's worker serves: what it has in flight by lane, of at most `room` together, and its
    `work`, where it is counted."""

    stage: str
    variant: str = "default"
    lane_in_flight: Counts = LaneCounts()
    room: Sent[int] = None
    model: str = ""
    work: StageWork | None = None


class WindowStatus(Schema):
    """The queries of a gateway by lane: those in flight, of about `room` in each lane, and those that wait for their
    tenant's turn."""

    in_flight: Counts = LaneCounts()
    waiting: Counts = LaneCounts()
    room: int = 0


class ServiceStatus(Schema):
    """One process; a gateway with its `window`."""

    service: str
    instance: str = ""
    version: str = ""
    ready: bool = False
    started_at: Sent[Timestamp] = None
    stages: tuple[StageStatus, ...] = ()
    window: WindowStatus | None = None


class Queue(Schema):
    stage: str
    variant: str = "default"
    lane: Annotated[str, closed_set("interactive", "batch")] = "interactive"
    waiting: int = 0
    in_flight: int = 0


class JobsStatus(Schema):
    waiting: int = 0
    in_flight: int = 0


class Status(Schema):
    """`warnings` are for a person to read: routes to variants that have no worker."""

    version: str = ""
    broker: BrokerStatus = BrokerStatus()
    services: tuple[ServiceStatus, ...] = ()
    queues: tuple[Queue, ...] = ()
    jobs: JobsStatus = JobsStatus()
    dead_letters: int = 0
    warnings: tuple[str, ...] = ()


class Variant(Schema):
    """`share` and `shadow` are percentages of the queries that visit the stage; `workers` are ready processes."""

    variant: str
    weight: float = 0.0
    share: float = 0.0
    shadow: float = 0.0
    workers: int = 0


class Route(Schema):
    """The variants of a stage. `revision` is that of the last change, 0 for a stage that nobody has routed;
    `warnings` are for a person to read."""

    stage: str
    variants: tuple[Variant, ...] = ()
    revision: int = 0
    updated_at: Timestamp | None = None
    updated_by: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def weights(self) -> dict[str, float]:
        """The weights above zero."""
        return {variant.variant: variant.weight for variant in self.variants if variant.weight}

    @property
    def shadows(self) -> dict[str, float]:
        """The shadows above zero, in percent."""
        return {variant.variant: variant.shadow for variant in self.variants if variant.shadow}


class DeadLetter(Schema):
    """A message that the system gave up on: where it was bound, and why it failed."""

    seq: int = Field(validation_alias=AliasChoices("seq", "sequence"))
    subject: str = ""
    reason: str = ""
    deliveries: int = 0
    failed_at: Sent[Timestamp] = None
    traceback: str = ""
    payload_bytes: int = 0
    job: str = ""


class DeadLetterMessage(DeadLetter):
    """A dead letter with the beginning of its message as text, which is null where the key does not allow it."""

    payload: str | None = None


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


class Pipeline(Schema):
    name: str
