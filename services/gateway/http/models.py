"""Requests to the HTTP API, and the responses that are not in `sluice.api`.

Times are Unix seconds, durations are milliseconds where the name says so.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue

from services.gateway.queries.generation_options import Generation
from services.gateway.queries.retrieval_options import Retrieval
from shared.contracts.collections import VersionName
from shared.contracts.envelope import Message, Passage, Stop
from shared.contracts.jobs import Job
from shared.contracts.models import OptionalModelName
from shared.contracts.principals import Allowed
from sluice.api.collections import Collection
from sluice.api.dead_letters import DeadLetter
from sluice.api.queries import Source, SourceCopy, SourceNeighbour

__all__ = [
    "CollectionChange",
    "CollectionList",
    "DeadLetterList",
    "JobBody",
    "JobList",
    "NewCollection",
    "Permissions",
    "PipelineBody",
    "PipelineList",
    "QueryRequest",
    "Replayed",
    "TextDocument",
    "TextDocuments",
    "Turn",
    "UploadForm",
    "sources_from",
]


ALLOWED = (
    "The users and groups that may see it: `user:alice`, `group:hr`. `public` alone is for everybody; an empty list "
    "is for those who manage documents. If nothing is said, a document keeps the list that it has."
)


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
    rerank: bool = Field(
        False,
        description="Have the stage `rerank` choose among the candidates; if left out, the collection says.",
    )
    candidates: int | None = Field(
        None,
        ge=1,
        le=200,
        description="Passages that are retrieved for the stage `rerank`; the collection's number or 40 if null.",
    )
    stream: bool = Field(False, description="Answer with server-sent events, as `Accept: text/event-stream` does.")
    pipeline: str | None = Field(None, description="A named pipeline; else the collection's, else `default`.")
    timeout: float | None = Field(None, description="Seconds that the query may take; the server's default if null.")
    conversation: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="What all questions of a conversation have in common, so that one variant answers them all."
    )
    retrieval: Retrieval = Field(Retrieval(), description="How passages are searched and ranked.")
    generate: Generation = Field(Generation(), description="How the answer is written.")
    metadata: Annotated[dict[str, str | bool | int | FiniteFloat], Field(max_length=64)] = Field(
        {}, description="The caller's own, for the conditions of a pipeline: texts, numbers, true and false."
    )


class NewCollection(_Request):
    name: str = Field(description="1 to 48 of a-z, 0-9, '-' and '_', starting with a letter or digit.")
    description: str = Field("", max_length=1000)
    pipeline: str | None = Field(None, description="The pipeline of queries that name none.")
    retrieval: Retrieval = Field(Retrieval(), description="How it is searched where a request says nothing else.")
    embedding_model: OptionalModelName = Field("", description="A model of the store; empty: the embedder's own.")
    rerank_model: OptionalModelName = Field("", description="A model of the store; empty: the reranker's own.")
    adapter: OptionalModelName = Field("", description="An adapter of the store for the generator; empty: none.")


class CollectionChange(_Request):
    """Members that are left out stay as they are."""

    description: str | None = Field(None, max_length=1000)
    pipeline: str | None = Field(None, description="The pipeline of queries that name none; null for `default`.")
    retrieval: Retrieval | None = Field(None, description="How the live version is searched; replaces all options.")
    rerank_candidates: int | None = Field(
        None, ge=0, le=200, description="Passages that the stage `rerank` chooses from; 0: only where it is asked for."
    )
    rerank_model: OptionalModelName | None = Field(
        None, description="A model of the store that reranks in the live version; empty: the reranker's own."
    )
    adapter: OptionalModelName | None = Field(
        None, description="An adapter of the store that answers from the live version; empty: none."
    )


class CollectionList(_Response):
    """`next` is the `after` of the following page, null at the end."""

    collections: list[Collection]
    next: str | None = None


class TextDocument(_Request):
    name: str
    text: str
    metadata: dict[str, JsonValue] = {}
    allowed: Annotated[Allowed | None, Field(strict=False, description=ALLOWED)] = None


class Permissions(_Request):
    """Who may see a document."""

    allowed: Annotated[Allowed, Field(strict=False, description=ALLOWED)]


class TextDocuments(_Request):
    documents: Annotated[list[TextDocument], Field(min_length=1)]


class UploadForm(_Response):
    """A multipart upload. The file name of each part is the document's name and may contain `/`."""

    files: list[Annotated[str, Field(json_schema_extra={"contentMediaType": "application/octet-stream"})]]
    metadata: Annotated[str, Field(description="A JSON object that all documents of the upload get.")] = "{}"
    allowed: Annotated[str, Field(description=f"{ALLOWED} A JSON list, for all documents of the upload.")] = "null"


class JobBody(_Response):
    job: Job


class JobList(_Response):
    """`next` is the `after` of the following page, null at the end."""

    jobs: list[Job]
    next: str | None = None


class PipelineBody(_Response):
    """`stages` are all that a query may visit; `steps` say how it comes to them, as in the file of pipelines."""

    name: str
    stages: list[Stop]
    steps: list[JsonValue]


class PipelineList(_Response):
    pipelines: list[PipelineBody]


class DeadLetterList(_Response):
    """`next` is the `after` of the following page, null at the end."""

    dead_letters: list[DeadLetter]
    next: int | None = None


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
            retrieval_score=p.retrieval_score,
            similarity=p.similarity,
            coverage=p.coverage,
            copies=tuple(
                SourceCopy(document=copy.document, document_id=copy.document_id, position=copy.position)
                for copy in p.copies
            ),
            context=tuple(SourceNeighbour(position=one.position, text=one.text) for one in p.context),
            metadata=p.metadata,
        )
        for index, p in enumerate(passages, 1)
    )
