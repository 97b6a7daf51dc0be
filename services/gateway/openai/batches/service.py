"""Batches in OpenAI's form: the request is kept as a record, and its job has the progress."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from nats.js import JetStreamContext
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from services.gateway.openai.paging import Page
from shared.contracts.batches import Phase
from shared.contracts.jobs import Endpoint, Job, JobState
from shared.contracts.problems import URN, Problem, ProblemType
from shared.contracts.wire import Wire
from shared.nats.kv import Repository
from shared.nats.subjects import BATCHES

__all__ = ["BatchBody", "BatchList", "BatchRecord", "Batches", "NewBatch", "PREFIX", "missing_batch"]

PREFIX: Final = "batch_"
"""What the id of a batch has before that of its job."""

WINDOW: Final = re.compile(r"([1-9][0-9]{0,6})([smhd])")
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_WINDOW: Final = 14 * 86400

JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


def _window(text: str) -> str:
    match = WINDOW.fullmatch(text)
    if match is None or int(match[1]) * UNITS[match[2]] > LONGEST_WINDOW:
        raise PydanticCustomError("window", "must be a time such as '24h', at most 14 days")
    return text


class NewBatch(BaseModel):
    """POST /v1/batches. What is not done within the `completion_window` expires."""

    model_config = ConfigDict(frozen=True)

    input_file_id: str
    endpoint: Endpoint
    completion_window: Annotated[str, AfterValidator(_window)]
    metadata: Metadata | None = None

    @property
    def seconds(self) -> float:
        """The completion window."""
        return float(self.completion_window[:-1]) * UNITS[self.completion_window[-1]]


class BatchRecord(Wire):
    """What was asked for; `job` is the job that does it. Times are Unix seconds."""

    job: str
    tenant: str
    input_file_id: str
    endpoint: Endpoint
    completion_window: str
    metadata: dict[str, str] | None = None
    created_at: float
    expires_at: float
    cancelling_at: float | None = None

    @property
    def id(self) -> str:
        return PREFIX + self.job


class Batches:
    """The records of all batches."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, BATCHES, BatchRecord.model_validate_json, noun="batch")

    async def create(self, record: BatchRecord) -> BatchRecord:
        """Keep a new record. Returns the one that is kept, which is another one where the job has one already."""
        return (await self._records.create(f"{record.tenant}.{record.job}", record))[0]

    async def put(self, record: BatchRecord) -> None:
        await self._records.put(f"{record.tenant}.{record.job}", record)

    async def get(self, tenant: str, batch: str) -> BatchRecord:
        """Raises Problem NOT_FOUND."""
        job = batch.removeprefix(PREFIX)
        known = job != batch and JOB_ID.fullmatch(job)
        record = await self._records.get(f"{tenant}.{job}") if known else None
        if record is None:
            raise missing_batch(batch)
        return record

    async def list(self, tenant: str) -> list[BatchRecord]:
        """All batches, newest first."""
        found = await self._records.list(f"{tenant}.>")
        return sorted(found, key=lambda record: (record.created_at, record.job), reverse=True)


def missing_batch(batch: str) -> Problem:
    return Problem(ProblemType.NOT_FOUND, f"There is no batch '{batch[:80]}'.")


class _BatchError(BaseModel):
    code: str
    message: str
    param: str | None = None
    line: int | None = None


class _BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: Sequence[_BatchError]


class _Counts(BaseModel):
    total: int
    completed: int
    failed: int


class BatchBody(BaseModel):
    """A batch. Times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: _BatchErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: _Counts
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, record: BatchRecord, job: Job | None) -> "BatchBody":
        """`job` is None where the gateway died before it submitted the job."""
        status = _status(job)
        ended = {f"{status}_at": _whole(job.finished_at)} if job and job.finished_at and job.state.ended else {}
        times = dict.fromkeys(("completed_at", "failed_at", "expired_at", "cancelled_at")) | ended
        outputs: dict[str, JsonValue] = job.outputs if job else {}
        progress = job.progress if job else None
        failed = progress.failed if progress else 0
        return cls.model_validate(
            {
                "id": record.id,
                "endpoint": record.endpoint,
                "errors": _errors(job) if status == "failed" else None,
                "input_file_id": record.input_file_id,
                "completion_window": record.completion_window,
                "status": status,
                "output_file_id": outputs.get("output_file"),
                "error_file_id": outputs.get("error_file"),
                "created_at": int(record.created_at),
                "in_progress_at": _whole(job.started_at) if job else None,
                "expires_at": int(record.expires_at),
                "cancelling_at": _whole(record.cancelling_at),
                "request_counts": {
                    "total": progress.total if progress else 0,
                    "completed": progress.done - failed if progress else 0,
                    "failed": failed,
                },
                "metadata": record.metadata,
                **times,
            }
        )


class BatchList(Page):
    """A page of batches."""

    data: list[BatchBody]


def _status(job: Job | None) -> str:
    """OpenAI's name for the state of a job."""
    if job is None:
        return "failed"
    if job.state is JobState.SUCCEEDED:
        return "completed"
    if job.state is JobState.FAILED:
        late = job.error is not None and job.error.type == ProblemType.DEADLINE_EXCEEDED.uri
        return "expired" if late else "failed"
    if job.state is JobState.CANCELLED:
        return "cancelled"
    if job.cancel_requested:
        return "cancelling"
    if job.progress.message == Phase.FINALIZING:
        return "finalizing"
    # A batch that has lines has been validated, also if it waits for its next try.
    return "in_progress" if job.progress.total else "validating"


def _errors(job: Job | None) -> dict[str, Any]:
    if job is None or job.error is None:
        return {"data": [{"code": "server_error", "message": "The batch was never started. Create it again."}]}
    found = (job.error.model_extra or {}).get("errors")
    code = job.error.type.removeprefix(URN)
    return {"data": found or [{"code": code, "message": job.error.detail or job.error.title}]}


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
