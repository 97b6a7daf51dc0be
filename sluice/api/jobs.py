"""What the HTTP API says of jobs besides the jobs themselves, as typed, immutable models."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sluice.api.models import JobState

__all__ = ["Artifact", "AuditEvent", "Schedule", "Step"]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class AuditEvent(_Wire):
    """A change of a job's state: when, by whom and why."""

    at: datetime
    state: JobState
    by: str = ""
    reason: str = ""
    attempt: int = 0


class Step(_Wire):
    """A step of a pipeline; `status` is waiting, running, succeeded, failed, skipped or cancelled;
    `reason` says why.

    With `each` it has `total` jobs, and `job` is what their ids begin with. `cached` of them used an earlier result.
    """

    step: str
    kind: str = ""
    status: str = "waiting"
    job: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    cached: int = 0
    reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Artifact(_Wire):
    """A file; `name`, `<job or folder>/<file>`, is what specs call it."""

    name: str
    file: str = ""
    bytes: int = 0


class Schedule(_Wire):
    """When a job is submitted again and again: by `cron`, or `every` so often."""

    name: str
    cron: str | None = None
    every: str | None = None
    zone: str | None = None
    spec: dict[str, Any] = Field(default_factory=dict)
    missed: str = "skip"
    overlap: str = "allow"
    paused: bool = False
    created_at: datetime | None = None
    last_at: datetime | None = None
    next_at: datetime | None = None
    last_job: str | None = None
