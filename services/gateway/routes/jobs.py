"""/v1/jobs"""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.backend import TENANT, BackendParameter, DeskParameter
from services.gateway.following import FollowedJob
from services.gateway.models import JobList
from services.gateway.openapi import event_stream, problems
from shared.jobs import Job, JobState
from shared.problems import Problem, ProblemType

__all__ = ["router"]

router = APIRouter(tags=["jobs"])

JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@router.get("/v1/jobs", summary="List jobs", responses=problems())
async def list_newest(
    backend: BackendParameter,
    state: JobState | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobList:
    """The newest jobs, newest first."""
    return JobList(jobs=await backend.jobs.list(TENANT, state=state, limit=limit))


@router.get("/v1/jobs/{job}", summary="Look at a job", responses=problems(ProblemType.NOT_FOUND))
async def get(job: str, backend: BackendParameter) -> Job:
    return await backend.jobs.get(TENANT, _checked(job))


@router.get(
    "/v1/jobs/{job}/events",
    summary="Follow a job",
    response_class=Response,
    responses={
        200: {
            "description": "The job now and after each change",
            "content": event_stream("`progress` (Job) now and after each change, `end` (Job) when the job has ended."),
        },
        **problems(ProblemType.NOT_FOUND),
    },
)
async def follow(job: str, desk: DeskParameter, backend: BackendParameter) -> Response:
    found = await backend.jobs.get(TENANT, _checked(job))
    return FollowedJob(backend.jobs, desk.news, found)


def _checked(job: str) -> str:
    if JOB_ID.fullmatch(job) is None:
        raise Problem(ProblemType.NOT_FOUND, f"There is no job '{job[:80]}'.")
    return job
