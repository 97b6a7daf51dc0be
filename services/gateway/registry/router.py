"""/v1/registry/models: models of the store, which collections embed and rerank with"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Query, Request, Response, status
from fastapi.responses import StreamingResponse

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    CollectionsDependency,
    ModelStoreDependency,
    ReleasesDependency,
    SettingsDependency,
)
from services.gateway.http.body import read_bounded
from services.gateway.http.openapi import problems
from services.gateway.http.tar import TAR
from services.gateway.registry.service import add_model, delete_model, described, need_registry
from services.gateway.registry.temporary import temporary_folder
from services.gateway.registry.transfer import as_tar
from services.gateway.state import state_of
from shared.contracts.keys import Action
from shared.contracts.models import Model, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.stores.model_users import users_of
from shared.stores.models import ModelStore
from sluice.api.registry import RegisteredModel, RegisteredModelList

__all__ = ["router"]

router = authenticated_router("registry")

ARCHIVE: Final = {TAR: {"schema": {"type": "string", "format": "binary"}}}

Hash = Annotated[
    str,
    Query(pattern=r"^([0-9a-f]{64})?$", description="The hash that the model must have, or else it is refused."),
]


@router.get("/v1/registry/models", summary="List the models of the store", responses=problems())
@requires(Action.READ)
async def list_all(
    models: ModelStoreDependency,
    collections: CollectionsDependency,
    releases: ReleasesDependency,
    principal: PrincipalDependency,
) -> RegisteredModelList:
    """The newest first. Takes a key for all collections and documents of the tenant, as all of these do."""
    tenant = need_registry(principal).tenant
    found, used = await models.list(tenant), await users_of(collections, releases, tenant)
    return RegisteredModelList(models=tuple(described(model, used.get(model.name)) for model in found))


@router.post(
    "/v1/registry/models",
    summary="Upload a model",
    status_code=status.HTTP_201_CREATED,
    openapi_extra={"requestBody": {"required": True, "content": ARCHIVE}},
    responses=problems(ProblemType.TOO_LARGE, ProblemType.STORAGE_FULL),
)
@requires(Action.WRITE)
async def upload(
    request: Request,
    settings: SettingsDependency,
    models: ModelStoreDependency,
    principal: PrincipalDependency,
    kind: Annotated[ModelKind, Query(description="What it does.")] = ModelKind.EMBEDDER,
    hash: Hash = "",  # noqa: A002  (the API's word)
    base: Annotated[str, Query(max_length=200, description="The model that it was trained from.")] = "",
    description: Annotated[str, Query(max_length=1000)] = "",
) -> RegisteredModel:
    """The body is a tar archive of the model's folder: weights as safetensors, with JSON and text beside them.

    Nothing of it is ever unpickled. The same files again are the same model.
    """
    need_registry(principal)
    async with state_of(request).model_uploads:
        model = await add_model(
            models,
            principal.tenant,
            read_bounded(request, settings.max_model_mb * 2**20),
            kind,
            expected=hash,
            base=base,
            description=description,
            by=principal.by(""),
        )
    return described(model)


@router.get("/v1/registry/models/{model}", summary="Look at a model", responses=problems(ProblemType.MODEL_NOT_FOUND))
@requires(Action.READ)
async def get(
    model: str,
    models: ModelStoreDependency,
    collections: CollectionsDependency,
    releases: ReleasesDependency,
    principal: PrincipalDependency,
) -> RegisteredModel:
    tenant = need_registry(principal).tenant
    found = await models.get(tenant, model)
    return described(found, (await users_of(collections, releases, tenant)).get(found.name))


@router.get(
    "/v1/registry/models/{model}/content",
    summary="Download a model",
    response_class=StreamingResponse,
    responses={
        200: {"description": "A tar archive of its files, with its record and checksums", "content": ARCHIVE},
        **problems(ProblemType.MODEL_NOT_FOUND, ProblemType.QUEUE_FULL),
    },
)
@requires(Action.READ)
async def download(
    model: str, request: Request, models: ModelStoreDependency, principal: PrincipalDependency
) -> Response:
    tenant = need_registry(principal).tenant
    found = await models.get(tenant, model)
    content = _content(models, found, state_of(request).model_downloads)
    # Before the response begins: what cannot be read is a problem, and not a response that breaks off.
    first = await anext(content)
    headers = {
        "Content-Disposition": f'attachment; filename="{found.name}.tar"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(_all(first, content), headers=headers, media_type=TAR)


@router.delete(
    "/v1/registry/models/{model}",
    summary="Delete a model",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.MODEL_NOT_FOUND, ProblemType.CONFLICT),
)
@requires(Action.WRITE)
async def delete(
    model: str,
    models: ModelStoreDependency,
    collections: CollectionsDependency,
    releases: ReleasesDependency,
    principal: PrincipalDependency,
) -> None:
    """Refused while a version of a collection or a release needs it."""
    await delete_model(models, collections, releases, need_registry(principal).tenant, model)


async def _content(models: ModelStore, model: Model, room: asyncio.Semaphore) -> AsyncIterator[bytes]:
    if room.locked():
        # Who reads slowly, or not at all, must not keep the others waiting without a word.
        detail = "Other models are being downloaded. Try again in a minute."
        raise Problem(ProblemType.QUEUE_FULL, detail, headers={"Retry-After": "60"})
    async with room, temporary_folder() as folder:
        await models.fetch(model.tenant, model.name, folder / model.name)
        async for piece in as_tar(model, folder / model.name):
            yield piece


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
