"""The HTTP API's own models. Times are Unix seconds, durations are milliseconds where the name says so."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.gateway.queries.generation_options import Generation
from services.gateway.queries.retrieval_options import Retrieval
from shared.contracts.collections import Collection, VersionName, VersionState
from shared.contracts.documents import Document
from shared.contracts.envelope import Hop, Message, Passage, Scalar, Stop
from shared.contracts.events import SentenceSupport, Usage
from shared.contracts.generation import ContextReport
from shared.contracts.jobs import Job
from shared.contracts.retrieval import RetrievalOptions

__all__ = [
    "AnswerBody",
    "CollectionBody",
    "CollectionChange",
    "CollectionList",
    "DeadLetterBody",
    "DeadLetterList",
    "DocumentBody",
    "DocumentPage",
    "DoneBody",
    "JobBody",
    "JobList",
    "NewCollection",
    "PipelineBody",
    "PipelineList",
    "QueryRequest",
    "Replayed",
    "Source",
    "SourceCopy",
    "SourcesBody",
    "TextDocument",
    "TextDocuments",
    "TextDelta",
    "Timings",
    "Turn",
    "UploadForm",
    "VersionBody",
    "sources_from",
]


class _Request(BaseModel):
    """Unknown members are refused, so that a typing error is told and not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class Turn(_Request):
    """What was said before the question."""

    role: Literal["system", "user", "assistant"]
    content: str

    def message(self) -> Message:
        return Message(role=self.role, content=self.content)


class QueryRequest(_Request):
    question: str = Field(description="What to answer: up to 8,000 characters of text.")
    messages: list[Turn] = Field([], description="The turns of the conversation before the question, oldest first.")
    collection: str = "default"
    version: VersionName | None = Field(None, description="A version of the collection to ask instead of the live one.")
    top_k: int = Field(5, ge=1, le=100, description="Passages to answer from.")
    filter: dict[str, JsonValue] | None = Field(
        None, description='Which documents to use, by metadata: {"year": {"$gte": 2020}, "lang": "en"}.'
    )
    stream: bool = Field(False, description="Answer with server-sent events, as `Accept: text/event-stream` does.")
    pipeline: str | None = Field(None, description="A named pipeline; else the collection's, else `default`.")
    timeout: float | None = Field(None, description="Seconds that the query may take; the server's default if null.")
    conversation: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="What all questions of a conversation have in common, so that one variant answers them all."
    )
    retrieval: Retrieval = Field(Retrieval(), description="How passages are searched and ranked.")
    generate: Generation = Field(Generation(), description="How the answer is written.")


class SourceCopy(_Response):
    document: str
    document_id: str
    position: int


class Source(_Response):
    """A passage that the answer rests on. Citations in the answer name its `index`, which counts from 1.

    `score` is 0 to 1 and can be compared between questions. `similarity` is the cosine to the question, and `coverage`
    the share of the question's terms that the passage holds, by their rarity. `copies` says where else its text is.
    """

    index: int
    document: str
    document_id: str
    position: int
    text: str
    score: float
    similarity: float | None
    coverage: float | None
    copies: tuple[SourceCopy, ...]
    metadata: dict[str, Scalar]


class Timings(_Response):
    """`first_delta_ms` is null for an answer without text."""

    total_ms: float
    first_delta_ms: float | None
    stages: tuple[Hop, ...]


class DoneBody(_Response):
    """`cited` are the indexes of the sources that citations name, `finish` is why the answer ended: `stop`, or
    `length` where it met its limit. `context` says what of the sources did not fit into the model's context window.
    `supported` says of each sentence whether the sources support it, by `supported_by`: `words`, also `meaning`, or
    `quotes`; it is empty where there is nothing to check."""

    id: str
    usage: Usage
    timings: Timings
    engine: str
    model: str
    finish: str
    cited: tuple[int, ...]
    supported: tuple[SentenceSupport, ...]
    supported_by: str
    context: ContextReport
    trace_id: str


class AnswerBody(DoneBody):
    answer: str
    sources: tuple[Source, ...]


class SourcesBody(_Response):
    id: str
    sources: tuple[Source, ...]


class TextDelta(_Response):
    text: str


class NewCollection(_Request):
    name: str = Field(description="1 to 48 of a-z, 0-9, '-' and '_', starting with a letter or digit.")
    description: str = Field("", max_length=1000)
    pipeline: str | None = Field(None, description="The pipeline of queries that name none.")
    retrieval: Retrieval = Field(Retrieval(), description="How it is searched where a request says nothing else.")


class CollectionChange(_Request):
    """Members that are left out stay as they are."""

    description: str | None = Field(None, max_length=1000)
    pipeline: str | None = Field(None, description="The pipeline of queries that name none; null for `default`.")
    retrieval: Retrieval | None = Field(None, description="How the live version is searched; replaces all options.")


class VersionBody(_Response):
    """One way in which the collection's documents are indexed. Chunk sizes are in tokens, null for the scheduler's
    settings. `job` has built it; `retired_at` says when it was live last."""

    name: str
    state: VersionState
    documents: int
    chunks: int
    chunk_tokens: int | None
    chunk_overlap: int | None
    embedding_variant: str
    retrieval: RetrievalOptions
    created_at: float
    retired_at: float | None
    job: str


class CollectionBody(_Response):
    """`documents` and `chunks` count what is in the index of `version`, the live one; those of other `versions` what
    was in them when they were built or retired."""

    name: str
    description: str
    pipeline: str | None
    documents: int
    chunks: int
    created_at: float
    version: str
    versions: tuple[VersionBody, ...]

    @classmethod
    def of(cls, record: Collection, documents: Iterable[Document]) -> "CollectionBody":
        chunks = [document.chunks for document in documents]
        counted = record.changed(record.live.name, documents=len(chunks), chunks=sum(chunks))
        return cls(
            name=record.name,
            description=record.description,
            pipeline=record.pipeline,
            documents=len(chunks),
            chunks=sum(chunks),
            created_at=record.created_at,
            version=record.live.name,
            versions=tuple(VersionBody.model_validate(v, from_attributes=True) for v in counted.versions),
        )


class CollectionList(_Response):
    collections: list[CollectionBody]


class DocumentBody(_Response):
    id: str
    name: str
    sha256: str
    bytes: int
    chunks: int
    media_type: str
    metadata: dict[str, Scalar]
    indexed_at: float

    @classmethod
    def of(cls, record: Document) -> "DocumentBody":
        return cls.model_validate(record, from_attributes=True)


class DocumentPage(_Response):
    """`next` is the `after` of the next page, null on the last one."""

    documents: list[DocumentBody]
    next: str | None


class TextDocument(_Request):
    name: str
    text: str
    metadata: dict[str, JsonValue] = {}


class TextDocuments(_Request):
    documents: Annotated[list[TextDocument], Field(min_length=1)]


class UploadForm(_Response):
    """A multipart upload. The file name of each part is the document's name and may contain `/`."""

    files: list[Annotated[str, Field(json_schema_extra={"contentMediaType": "application/octet-stream"})]]
    metadata: Annotated[str, Field(description="A JSON object that all documents of the upload get.")] = "{}"


class JobBody(_Response):
    job: Job


class JobList(_Response):
    jobs: list[Job]


class PipelineBody(_Response):
    name: str
    stages: list[Stop]


class PipelineList(_Response):
    pipelines: list[PipelineBody]


class DeadLetterBody(_Response):
    seq: int
    subject: str
    reason: str
    deliveries: int
    failed_at: float
    traceback: str
    payload_bytes: int
    job: str = ""


class DeadLetterList(_Response):
    dead_letters: list[DeadLetterBody]


class Replayed(_Response):
    """`subject` is where the work has gone to."""

    subject: str


def sources_from(passages: Iterable[Passage]) -> tuple[Source, ...]:
    return tuple(
        Source(
            index=index,
            document=p.document,
            document_id=p.document_id,
            position=p.position,
            text=p.text,
            score=p.score,
            similarity=p.similarity,
            coverage=p.coverage,
            copies=tuple(
                SourceCopy(document=copy.document, document_id=copy.document_id, position=copy.position)
                for copy in p.copies
            ),
            metadata=p.metadata,
        )
        for index, p in enumerate(passages, 1)
    )
