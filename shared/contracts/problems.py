"""The closed set of problems that Sluice reports, as RFC 9457 problem details.

A problem is raised where it is known, travels over the reply plane as JSON and is rendered once, at the edge.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["Problem", "ProblemDetails", "ProblemType"]

URN = "urn:sluice:problem:"
JSON = "application/problem+json"


class ProblemType(Enum):
    """Each member is (code, HTTP status, title); the code is stable and ends the type URI."""

    INVALID_REQUEST = "invalid-request", 422, "The request is not valid"
    INVALID_QUESTION = "invalid-question", 422, "The question is not valid"
    INVALID_FILTER = "invalid-filter", 422, "The filter is not valid"
    INVALID_NAME = "invalid-name", 422, "The name is not valid"
    INVALID_METADATA = "invalid-metadata", 422, "The metadata is not valid"
    UNAUTHENTICATED = "unauthenticated", 401, "A valid API key is needed"
    FORBIDDEN = "forbidden", 403, "The API key does not allow this"
    NOT_FOUND = "not-found", 404, "There is no such resource"
    COLLECTION_NOT_FOUND = "collection-not-found", 404, "There is no such collection"
    COLLECTION_EMPTY = "collection-empty", 409, "The collection holds no documents yet"
    CONFLICT = "conflict", 409, "The resource exists already with other settings"
    PRECONDITION_FAILED = "precondition-failed", 412, "The resource has changed meanwhile"
    PIPELINE_NOT_FOUND = "pipeline-not-found", 404, "There is no such pipeline"
    TOO_SLOW = "too-slow", 408, "The body took too long to arrive"
    TOO_LARGE = "too-large", 413, "The body is larger than allowed"
    UNSUPPORTED_DOCUMENT = "unsupported-document", 415, "This kind of document cannot be read"
    BROKEN_DOCUMENT = "broken-document", 422, "The document cannot be parsed"
    ENCRYPTED_DOCUMENT = "encrypted-document", 422, "The document is encrypted"
    EMPTY_DOCUMENT = "empty-document", 422, "The document holds no text"
    DOCUMENT_LIMIT = "document-limit", 422, "Reading the document took more time or memory than allowed"
    CONTEXT_EXCEEDED = "context-exceeded", 422, "The prompt does not fit into the model's context window"
    MODEL_NOT_FOUND = "model-not-found", 404, "There is no such model"
    MODEL_FAILED = "model-failed", 500, "The model failed"
    MODEL_UNAVAILABLE = "model-unavailable", 503, "The model cannot be loaded"
    RATE_LIMITED = "rate-limited", 429, "The limit of the API key is reached"
    QUEUE_FULL = "queue-full", 429, "Too many queries are waiting"
    STAGE_UNAVAILABLE = "stage-unavailable", 503, "No worker took the query in time"
    BROKER_UNAVAILABLE = "broker-unavailable", 503, "The message broker cannot be reached"
    STORAGE_FULL = "storage-full", 507, "The message broker has no room to store this"
    DEADLINE_EXCEEDED = "deadline-exceeded", 504, "The query did not finish by its deadline"
    ANSWER_INTERRUPTED = "answer-interrupted", 502, "The answer broke off and could not be continued"
    INDEX_UNAVAILABLE = "index-unavailable", 503, "The index cannot be reached"
    ENGINE_BUSY = "engine-busy", 503, "The generation engine has too much to do"
    ENGINE_FAILED = "engine-failed", 502, "The generation engine failed"
    RERANKER_FAILED = "reranker-failed", 502, "The reranker failed"
    COMMAND_REFUSED = "command-refused", 403, "The command may not run here"
    COMMAND_FAILED = "command-failed", 422, "The command failed"
    COMMAND_INTERRUPTED = "command-interrupted", 503, "The command could not finish now"
    TRAINING_REFUSED = "training-refused", 403, "Training may not run here"
    TRAINING_FAILED = "training-failed", 422, "The training failed"
    CLUSTER_UNAVAILABLE = "cluster-unavailable", 503, "The Kubernetes API cannot be reached"
    SOURCE_REFUSED = "source-refused", 403, "The source may not be read from here"
    SOURCE_UNAVAILABLE = "source-unavailable", 503, "The source cannot be read now"
    ORIGINALS_MISSING = "originals-missing", 409, "The documents' originals are not kept"
    VERSION_NOT_READY = "version-not-ready", 409, "The version cannot become the live one"
    INDEX_DAMAGED = "index-damaged", 409, "The index and the records of the collection do not agree"
    STEP_FAILED = "step-failed", 500, "A step of the pipeline failed"
    STAGE_FAILED = "stage-failed", 500, "A stage failed"
    INTERNAL = "internal-error", 500, "Something went wrong on our side"

    def __init__(self, code: str, status: int, title: str) -> None:
        self.code = code
        self.status = status
        self.title = title

    @property
    def uri(self) -> str:
        return URN + self.code


class ProblemDetails(BaseModel):
    """The wire form (RFC 9457, section 3). Extension members are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str | None = None


class Problem(Exception):  # noqa: N818  (the standard's own word)
    """A problem that a person can act on: `detail` says what is wrong and what to do.

    Extras become extension members of the JSON object; `headers` go on the HTTP response.
    """

    def __init__(
        self, kind: ProblemType, detail: str, *, headers: Mapping[str, str] | None = None, **extras: Any
    ) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.extras = extras

    def __str__(self) -> str:
        return f"{self.kind.title}: {self.detail}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.kind, self.detail, self.headers, self.extras)

    @property
    def details(self) -> ProblemDetails:
        return ProblemDetails(
            type=self.kind.uri,
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            **self.extras,
        )

    @classmethod
    def from_details(cls, details: ProblemDetails) -> Self:
        """Rebuild a problem that came over the wire; an unknown type becomes INTERNAL."""
        kind = next((k for k in ProblemType if k.uri == details.type), ProblemType.INTERNAL)
        return cls(kind, details.detail, **(details.model_extra or {}))


def _rebuild(kind: ProblemType, detail: str, headers: dict[str, str], extras: dict[str, Any]) -> Problem:
    return Problem(kind, detail, headers=headers, **extras)
