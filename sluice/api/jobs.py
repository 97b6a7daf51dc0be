"""What the HTTP API says of jobs besides the jobs themselves, as typed, immutable models."""

from typing import Annotated, Any

from pydantic import Field

from sluice.api.base import Schema, Timestamp, closed_set
from sluice.api.models import JobState

__all__ = ["Artifact", "AuditEvent", "Schedule", "Step"]


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
