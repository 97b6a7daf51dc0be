"""Experiment runs as the HTTP API shows them, as typed, immutable models."""

from pydantic import Field

from sluice.api.base import Schema, Timestamp
from sluice.api.jobs import JobState

__all__ = ["CodeVersion", "DataVersion", "MetricList", "MetricSeries", "Run", "RunPage"]

Scalar = str | bool | int | float


class CodeVersion(Schema):
    """The version of Sluice that a run had, with the git revision and the image where the deployment names them."""

    version: str = ""
    revision: str = ""
    image: str = ""


class DataVersion(Schema):
    """What a run has read. `files` are the digests of the artifacts that its parameters name.

    `index` stands for the index of the collection's `version`, and `documents` grows with every change of what is in
    it: runs in which both are the same have seen the same documents.
    """

    files: dict[str, str] = Field(default_factory=dict)
    version: str = ""
    index: str = ""
    documents: int = 0


class Run(Schema):
    """A job that is compared with others. `name` is that of a pipeline, `parent` the pipeline that it is a step of.

    `parameters` are what it was to do, by paths such as `chunks.0.tokens`; `metrics` are its outputs that are numbers,
    and `outputs` the others. `main_metrics` name those that say how good it is, the one to compare by first. `code` and
    `data` are known once it has started. `error` says why it has failed.
    """

    id: str
    kind: str = ""
    name: str = ""
    collection: str = ""
    state: JobState = JobState.QUEUED
    created_at: Timestamp | None = None
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    attempt: int = 0
    by: str = ""
    parent: str | None = None
    schedule: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    main_metrics: tuple[str, ...] = ()
    outputs: dict[str, Scalar] = Field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    code: CodeVersion = CodeVersion()
    data: DataVersion = DataVersion()
    trace_id: str = ""
    error: str = ""

    @property
    def finished(self) -> bool:
        return self.state not in (JobState.QUEUED, JobState.RUNNING)


class RunPage(Schema):
    """Runs, the newest first; `next` is the `after` of the following page, null at the end."""

    runs: tuple[Run, ...] = ()
    next: str | None = None


class MetricSeries(Schema):
    """The values of a metric by step, and the times at which they were logged. A value that was not finite is null."""

    name: str
    steps: tuple[int, ...] = ()
    values: tuple[float | None, ...] = ()
    times: tuple[Timestamp, ...] = ()


class MetricList(Schema):
    """In the order in which they were first logged."""

    metrics: tuple[MetricSeries, ...] = ()
