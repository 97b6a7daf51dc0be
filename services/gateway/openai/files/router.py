"""/v1/files"""

import time
from typing import Annotated, Final, Literal
from urllib.parse import quote

from fastapi import Depends, Query, Request
from starlette.responses import Response

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    ArtifactObjectsDependency,
    ArtifactsDependency,
    CollectionCacheDependency,
    FilesDependency,
    JobsDependency,
    SettingsDependency,
)
from services.gateway.http.body import media_type, read_bounded, refuse_other_sites
from services.gateway.http.downloads import download
from services.gateway.http.openapi import request_body
from services.gateway.openai.errors import errors
from services.gateway.openai.files.service import FileBody, FileDeleted, FileForm, FileList, receive_file
from services.gateway.openai.files.visibility import get_file, visible_files
from services.gateway.openai.paging import paginate
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from shared.stores.files import FileRecord, file_id

__all__ = ["router"]

router = authenticated_router("openai")

FORM: Final = "multipart/form-data"
FORM_BYTES: Final = 64 * 1024
"""Bytes of a form besides the file in it."""


@router.post(
    "/v1/files",
    summary="Upload a file",
    dependencies=[Depends(refuse_other_sites)],
    openapi_extra=request_body(multipart=FileForm),
    responses=errors(ProblemType.TOO_LARGE),
)
@requires(Action.JOBS)
async def upload(
    request: Request,
    settings: SettingsDependency,
    artifact_objects: ArtifactObjectsDependency,
    files: FilesDependency,
    principal: PrincipalDependency,
) -> FileBody:
    """The input of batches is JSONL with the purpose `batch`. Files are kept as long as the history of jobs."""
    if media_type(request) != FORM:
        raise Problem(ProblemType.INVALID_REQUEST, f"Send the file as '{FORM}'.")
    file = file_id()
    name = f"{file}/content"
    limit = settings.max_batch_file_bytes
    async with artifact_objects.batch() as batch:
        stream = read_bounded(request, limit + FORM_BYTES)
        form_type, target = request.headers["content-type"], f"{principal.tenant}/{name}"
        received = await receive_file(stream, form_type, batch, target, limit)
        await batch.commit()
        record = FileRecord(
            id=file,
            tenant=principal.tenant,
            filename=received.filename,
            purpose=received.purpose,
            bytes=received.stored.bytes,
            artifact=name,
            created_at=time.time(),
        )
        await files.put(record)
    return FileBody.of(record, settings.history_seconds)


@router.get("/v1/files", summary="List files", responses=errors(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def list_page(
    settings: SettingsDependency,
    files: FilesDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
    purpose: str | None = None,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str, Query(description="The id of the last file of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
) -> FileList:
    """What was uploaded, and what batches have made, by time."""
    found = [record for record in await files.list(principal.tenant) if purpose in (None, record.purpose)]
    found = await visible_files(jobs, cache, principal, found)
    if order == "asc":
        found.reverse()
    page, more = paginate(found, after, limit, lambda record: record.id)
    data = [FileBody.of(record, settings.history_seconds) for record in page]
    return FileList.of(data, [record.id for record in page], more)


@router.get("/v1/files/{file}", summary="Look at a file", responses=errors(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(
    file: str,
    settings: SettingsDependency,
    files: FilesDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> FileBody:
    return FileBody.of(await get_file(files, jobs, cache, principal, file), settings.history_seconds)


@router.get(
    "/v1/files/{file}/content",
    summary="Download a file",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **errors(ProblemType.NOT_FOUND)},
)
@requires(Action.READ)
async def content(
    file: str,
    artifacts: ArtifactsDependency,
    files: FilesDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> Response:
    record = await get_file(files, jobs, cache, principal, file)
    response = await download(artifacts, principal.tenant, record.artifact)
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(record.filename, safe='')}"
    return response


@router.delete("/v1/files/{file}", summary="Delete a file", responses=errors(ProblemType.NOT_FOUND))
@requires(Action.JOBS)
async def delete(
    file: str,
    files: FilesDependency,
    artifacts: ArtifactsDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
) -> FileDeleted:
    """A batch that has not ended needs its input."""
    record = await get_file(files, jobs, cache, principal, file)
    await artifacts.delete(principal.tenant, record.artifact)
    await files.delete(record)
    return FileDeleted(id=file)
