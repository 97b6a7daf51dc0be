"""Jobs as the HTTP API takes and shows them."""

import asyncio
import time
from typing import Annotated, Final

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.http.models import JobBody
from services.gateway.http.problems import invalid_member
from services.gateway.jobs.visibility import need_artifacts, visible_jobs
from shared.contracts.jobs import (
    AnyJobSpec,
    DropSpec,
    IngestSpec,
    Job,
    JobOptions,
    JobSpec,
    PipelineSpec,
    Priority,
    RetryPolicy,
)
from shared.contracts.keys import Action
from shared.contracts.pipelines import PipelineError, check_pipeline
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.runs import without_secrets
from shared.stores.jobs.store import JobStore
from sluice.api.jobs import Artifact, AuditEvent, Step

__all__ = [
    "ArtifactList",
    "AuditList",
    "Cancel",
    "JobSettings",
    "NewJob",
    "Retry",
    "StepList",
    "accepted",
    "check_spec",
    "shown_spec",
    "submit",
]

LONGEST: Final = 10 * 366 * 86400
"""Seconds that a job may be given."""

Label = Annotated[str, Field(max_length=128)]
By = Annotated[str, Field(max_length=100, description="Who says so; shown in the audit log.")]
Reason = Annotated[str, Field(max_length=500, description="Why; shown in the audit log.")]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class JobSettings(_Request):
    """What may be said about any job besides its spec."""

    priority: Priority = Priority.NORMAL
    labels: Annotated[dict[Label, Label], Field(max_length=32)] = {}
    retry: RetryPolicy = Field(RetryPolicy(), description="How often the job is tried, and the rest between two tries.")
    timeout: float | None = Field(
        None, gt=0, le=LONGEST, description="Seconds from now by which the job must have ended."
    )
    by: By = ""

    def options(self, **more: str) -> JobOptions:
        """What goes with the job; its deadline counts from now."""
        return JobOptions(
            priority=self.priority,
            labels=self.labels,
            retry=self.retry,
            deadline=None if self.timeout is None else time.time() + self.timeout,
            by=self.by,
            **more,
        )


class NewJob(JobSettings):
    spec: AnyJobSpec = Field(discriminator="kind", description="What is to be done; `kind` says which members it has.")


class Cancel(_Request):
    reason: Reason = ""
    by: By = ""


class Retry(_Request):
    reason: Reason = ""
    by: By = ""


class AuditList(BaseModel):
    """Every change of the job's state, oldest first."""

    model_config = ConfigDict(frozen=True)

    events: list[AuditEvent]


class StepList(BaseModel):
    """In the order in which the steps may run."""

    model_config = ConfigDict(frozen=True)

    steps: list[Step]


class ArtifactList(BaseModel):
    model_config = ConfigDict(frozen=True)

    artifacts: list[Artifact]


INTERNAL: Final = "documents are uploaded to /v1/collections/<collection>/documents"


def check_spec(spec: JobSpec, at: str = "spec") -> None:
    """Raises Problem INVALID_REQUEST, naming the place, for what cannot be asked for over HTTP or cannot work."""
    match spec:
        case DropSpec():
            raise invalid_member(f"{at}.kind", "collections are dropped by DELETE /v1/collections/<collection>")
        case IngestSpec(uploaded=uploaded) if uploaded:
            raise invalid_member(f"{at}.documents", INTERNAL)
        case IngestSpec(source=None):
            raise invalid_member(f"{at}.source", f"name a folder or a bucket; {INTERNAL}")
        case PipelineSpec():
            _check_pipeline(spec, at)
        case _:
            return


def _check_pipeline(spec: PipelineSpec, at: str) -> None:
    try:
        check_pipeline(spec)
    except PipelineError as error:
        found = [{"path": f"{at}.{place}", "message": message} for place, message in error.faults][:20]
        detail = "; ".join(f"{fault['path']}: {fault['message']}" for fault in found[:3])
        raise Problem(ProblemType.INVALID_REQUEST, detail + ".", errors=found) from None


def shown_spec(principal: Principal, spec: JobSpec) -> JobSpec:
    """The spec as the caller may see it: only who may run commands sees the values of their environment, which often
    are secrets."""
    return spec if principal.may(Action.SYSTEM) else without_secrets(spec)


async def submit(
    jobs: JobStore, cache: CollectionCache, principal: Principal, job: str, spec: JobSpec, options: JobOptions
) -> Job:
    """Put a job on the queue, or find the one that an earlier request with its Idempotency-Key has made.

    Raises Problem INVALID_REQUEST, FORBIDDEN, QUEUE_FULL, NOT_FOUND for a file of a job that is not there for the
    caller, or CONFLICT where the key stands for something else.
    """
    if isinstance(spec, PipelineSpec):
        await asyncio.to_thread(check_spec, spec)  # it takes a while
    else:
        check_spec(spec)
    principal.need_spec(spec)
    await need_artifacts(jobs, cache, principal, spec)
    made, new = await jobs.submit(spec, job=job, tenant=principal.tenant, options=principal.options(options))
    visible = await visible_jobs(cache, principal)
    if not new and not (visible(made) and await jobs.specs.get(principal.tenant, job) == spec):
        raise Problem(ProblemType.CONFLICT, "This Idempotency-Key was used for another job.")
    return made


def accepted(response: Response, job: Job) -> JobBody:
    """The body of a response to a request that made a job; its header names where to look at the job."""
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobBody(job=job)
