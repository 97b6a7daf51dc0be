"""A job as its submitter sees it, and the options of a job besides its spec."""

import hashlib
import re
import secrets
import time
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, JsonValue

from shared.contracts.jobs.facts import RunFacts
from shared.contracts.jobs.spec import RetryPolicy
from shared.contracts.keys import EVERY_COLLECTION
from shared.contracts.principals import ALL
from shared.contracts.problems import ProblemDetails
from shared.contracts.wire import Wire

__all__ = [
    "DocumentError",
    "ItemWarning",
    "Job",
    "JobOptions",
    "JobProgress",
    "JobState",
    "Priority",
    "check_ids",
    "job_id",
]

ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Priority(StrEnum):
    """Jobs of a higher priority are taken first; among those of the same one, tenants take turns."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


Label = Annotated[str, Field(max_length=128)]


def _known(retry: object) -> object:
    """Without members that a newer version adds: a policy refuses them, where a person writes one."""
    if not isinstance(retry, dict):
        return retry
    return {name: value for name, value in retry.items() if name in RetryPolicy.model_fields}


class JobOptions(Wire):
    """The options of any job. `deadline` is the Unix time by which it must have ended.

    `by` is who asked for it, and `collections` are patterns of those that it may name. `principals` are who it looks at
    documents as; where nobody has said it, it sees those without a list. `parent` is the job that submitted it,
    `schedule` the schedule whose tick it is.
    """

    priority: Priority = Priority.NORMAL
    retry: Annotated[RetryPolicy, BeforeValidator(_known)] = RetryPolicy()
    deadline: float | None = None
    labels: Annotated[dict[Label, Label], Field(max_length=32)] = {}
    by: str = ""
    collections: tuple[str, ...] = EVERY_COLLECTION
    principals: tuple[str, ...] | None = None
    parent: str | None = None
    schedule: str | None = None

    @property
    def sees_everything(self) -> bool:
        """Whether the job may look at all collections and documents of its tenant, and so at everybody's feedback."""
        return self.collections == EVERY_COLLECTION and ALL in (self.principals or ())


class JobProgress(Wire):
    """How far a job is: `done` of `total` units of its kind, and a word on what it does now.

    For documents, indexed + skipped + deleted + failed of `documents` are done; `warned` of them are among the indexed.
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


class DocumentError(Wire):
    """Why one document was not indexed, or one line of a batch not answered."""

    document: str
    type: str
    title: str
    detail: str


class ItemWarning(Wire):
    """What of one document is not in the index, though the document is."""

    document: str
    kind: str
    detail: str


class Job(Wire):
    """A job. Times are Unix seconds. `name` is that of a pipeline, empty for other kinds. `errors` and `warnings` hold
    the first hundred each.

    `attempt` counts the tries that were begun, `crashes` the workers that died in one. `given_back` says that no worker
    has it though it runs, `cancel_requested` that it is to end. `outputs` are small results, `artifacts` the names of
    large ones. `revision` orders the effects of jobs: the later submitted one has the greater. `event` is the number of
    the job's last event in the audit log. `facts` are there once a job that is an experiment run has started.
    """

    id: str
    kind: str
    state: JobState = JobState.QUEUED
    tenant: str = "default"
    collection: str = ""
    name: str = ""
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempt: int = 0
    crashes: int = 0
    given_back: bool = False
    options: JobOptions = JobOptions()
    progress: JobProgress = JobProgress()
    errors: tuple[DocumentError, ...] = ()
    warnings: tuple[ItemWarning, ...] = ()
    error: ProblemDetails | None = None
    outputs: dict[str, JsonValue] = {}
    artifacts: tuple[str, ...] = ()
    cancel_requested: bool = False
    revision: int = 0
    event: int = 0
    facts: RunFacts | None = None


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
