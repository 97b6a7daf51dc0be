"""What the HTTP API says of jobs, as typed, immutable models."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from sluice.api.base import Schema, Timestamp, closed_set
from sluice.api.documents import DocumentWarning
from sluice.api.problems import ProblemDetails

__all__ = [
    "Artifact",
    "AuditEvent",
    "DocumentError",
    "ItemWarning",
    "Job",
    "JobOptions",
    "JobState",
    "Progress",
    "Schedule",
    "Step",
]


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


class AuditEvent(Schema):
    """A change of a job's state: when, by whom and why.

    `by` is a person, a worker, a pipeline or a schedule, and empty where unknown. `event` is its number in the log.
    """

    at: Timestamp
    state: JobState
    by: str = ""
    reason: str = ""
    attempt: int = 0
    event: int = 0


class Step(Schema):
    """A step of a pipeline; `reason` says why its `status` is what it is, `needs` which steps it waits for.

    With `each` it has `total` jobs, and `job` is what their ids begin with. `cached` of them used an earlier result.
    """

    step: str
    kind: str = ""
    status: Annotated[str, closed_set("waiting", "running", "succeeded", "failed", "skipped", "cancelled")] = "waiting"
    needs: tuple[str, ...] = ()
    job: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    cached: int = 0
    reason: str = ""
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None


class Artifact(Schema):
    """A file; `name`, `<job or folder>/<file>`, is what specs call it."""

    name: str
    file: str = ""
    bytes: int = 0


class Schedule(Schema):
    """When a job is submitted again and again: by `cron`, or `every` so often."""

    name: str
    cron: str | None = None
    every: str | None = None
    zone: str | None = None
    spec: dict[str, Any] = Field(default_factory=dict)
    missed: str = "skip"
    overlap: str = "allow"
    paused: bool = False
    created_at: Timestamp | None = None
    last_at: Timestamp | None = None
    next_at: Timestamp | None = None
    last_job: str | None = None
