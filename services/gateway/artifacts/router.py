"""/v1/artifacts: files that jobs read, and files that they have made"""

from io import BufferedIOBase
from tempfile import SpooledTemporaryFile
from typing import Final, cast

from fastapi import Request, Response, status
from fastapi.responses import StreamingResponse

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    ArtifactsDependency,
    CollectionCacheDependency,
    JobsDependency,
    SettingsDependency,
)
from services.gateway.http.body import read_bounded
from services.gateway.http.downloads import download
from services.gateway.http.openapi import problems
from services.gateway.jobs.visibility import need_artifact
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import check_artifact
from shared.stores.jobs.store import JobStore
from sluice.api.jobs import Artifact

__all__ = ["router"]

router = authenticated_router("jobs")

IN_MEMORY: Final = 2**20
"""Bytes of an upload that are held in memory; what is beyond goes through a temporary file."""

BINARY: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.put(
    "/v1/artifacts/{folder}/{file}",
    summary="Upload a file for jobs to read",
    status_code=status.HTTP_201_CREATED,
    openapi_extra={"requestBody": {"required": True, "content": BINARY}},
    responses=problems(ProblemType.INVALID_NAME, ProblemType.CONFLICT, ProblemType.TOO_LARGE),
)
@requires(Action.JOBS)
async def put(
    folder: str,
    file: str,
    request: Request,
    settings: SettingsDependency,
    artifacts: ArtifactsDependency,
    jobs: JobsDependency,
    principal: PrincipalDependency,
) -> Artifact:
    """Stores the body, replacing an earlier file of the same name. Specs name it `<folder>/<file>`.

    Files are kept as long as the history of jobs.
    """
    name = check_artifact(f"{folder}/{file}")
    await _refuse_job_folder(jobs, principal, folder)
    with SpooledTemporaryFile(max_size=IN_MEMORY) as received:
        async for piece in read_bounded(request, settings.max_body_bytes):
            received.write(piece)
        received.seek(0)
        size = await artifacts.put(principal.tenant, name, cast("BufferedIOBase", received))
    return Artifact(name=name, file=file, bytes=size)


@router.get(
    "/v1/artifacts/{folder}/{file}",
    summary="Download a file of jobs",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The file", "content": BINARY},
        **problems(ProblemType.NOT_FOUND, ProblemType.INVALID_NAME),
    },
)
@requires(Action.READ)
async def get(
    folder: str,
    file: str,
    artifacts: ArtifactsDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> Response:
    await need_artifact(jobs, cache, principal, folder)
    return await download(artifacts, principal.tenant, f"{folder}/{file}")


@router.delete(
    "/v1/artifacts/{folder}/{file}",
    summary="Remove a file of jobs",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.INVALID_NAME),
)
@requires(Action.JOBS)
async def delete(
    folder: str,
    file: str,
    artifacts: ArtifactsDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> None:
    """A file that does not exist is not an error."""
    await need_artifact(jobs, cache, principal, folder)
    await artifacts.delete(principal.tenant, f"{folder}/{file}")


async def _refuse_job_folder(jobs: JobStore, principal: Principal, folder: str) -> None:
    try:
        await jobs.get(principal.tenant, folder)
    except Problem:
        return
    raise Problem(ProblemType.CONFLICT, f"'{folder}' is a job, whose files cannot be changed. Name another folder.")
