"""Jobs on the wire: what is asked for, and how far it is."""

import hashlib
import re
import secrets
import time
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from shared.envelope import Scalar, Wire
from shared.problems import ProblemDetails

__all__ = [
    "DeleteSpec",
    "DocumentError",
    "DocumentRef",
    "DropSpec",
    "IngestSpec",
    "Job",
    "JobProgress",
    "JobSpec",
    "JobState",
    "check_ids",
    "decode_spec",
    "job_id",
]


ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class DocumentRef(Wire):
    """One uploaded document: `object` is its name in the uploads bucket, `sha256` the hash of its bytes."""

    name: str
    object: str
    sha256: str
    bytes: int
    media_type: str | None = None
    metadata: dict[str, Scalar] = {}


class IngestSpec(Wire):
    """Parse, chunk, embed and index these documents, each replacing an earlier version of the same name."""

    kind: Literal["ingest"] = "ingest"
    collection: str
    documents: tuple[DocumentRef, ...]


class DeleteSpec(Wire):
    """Remove these documents (by id) from a collection."""

    kind: Literal["delete"] = "delete"
    collection: str
    documents: tuple[str, ...]


class DropSpec(Wire):
    """Remove a whole collection's index and document records."""

    kind: Literal["drop"] = "drop"
    collection: str
    table: str


JobSpec = IngestSpec | DeleteSpec | DropSpec
_specs: TypeAdapter[JobSpec] = TypeAdapter(Annotated[JobSpec, Field(discriminator="kind")])


def decode_spec(data: bytes) -> JobSpec:
    """Raises pydantic.ValidationError for anything that is no job spec."""
    return _specs.validate_json(data)


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class JobProgress(Wire):
    """How far a job is. `documents` is the total; indexed + skipped + deleted + failed of them are done."""

    documents: int = 0
    indexed: int = 0
    skipped: int = 0
    deleted: int = 0
    failed: int = 0
    chunks: int = 0
    bytes: int = 0


class DocumentError(Wire):
    """Why one document was not indexed."""

    document: str
    type: str
    title: str
    detail: str


class Job(Wire):
    """A job as its submitter sees it. Times are Unix seconds. `errors` holds the first hundred."""

    id: str
    kind: str
    state: JobState = JobState.QUEUED
    tenant: str = "default"
    collection: str = ""
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempt: int = 0
    progress: JobProgress = JobProgress()
    errors: tuple[DocumentError, ...] = ()
    error: ProblemDetails | None = None


def check_ids(tenant: str, job: str) -> None:
    """Raises ValueError unless both are 1 to 64 letters, digits, `-` and `_`, as subjects and keys need."""
    for name, value in (("ce-tenant", tenant), ("ce-id", job)):
        if not ID.fullmatch(value):
            raise ValueError(f"{name} must be 1 to 64 letters, digits, '-' and '_', not {value[:80]!r}")


def job_id(tenant: str, idempotency_key: str | None) -> str:
    """A new id that sorts by time; with a key, the one id that this tenant's key stands for."""
    if idempotency_key is None:
        return f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(6)}"
    return "k" + hashlib.sha256(f"{tenant}\n{idempotency_key}".encode()).hexdigest()[:31]
