"""Releases out and in: /v1/releases/{release}/content, /v1/releases/content, and what is signed of one"""

from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Query, Request, Response, status
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import AUDIT_DETAILS, PrincipalDependency
from services.gateway.dependencies import (
    CollectionsDependency,
    ModelStoreDependency,
    ReleasesDependency,
    SettingsDependency,
)
from services.gateway.http.body import read_bounded
from services.gateway.http.openapi import problems
from services.gateway.http.tar import TAR
from services.gateway.registry.service import need_registry
from services.gateway.releases.archives.transfer import (
    ArchiveFormat,
    export_release,
    import_release,
    release_statement,
)
from services.gateway.releases.models import Named
from services.gateway.releases.service import described
from services.gateway.state import state_of
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from sluice.api.releases import STATEMENT, ImportedRelease

__all__ = ["router"]

router = authenticated_router("releases")

ARCHIVE: Final = {TAR: {"schema": {"type": "string", "format": "binary"}}}

SIGNATURE: Final = r"^[0-9a-f]{64}:[A-Za-z0-9_-]{1,200}={0,2}$"
FORMAT: Final = "`tar` with checksums, or `oci`: an OCI image layout, as a tar archive too."

Signatures = Annotated[
    list[Annotated[str, StringConstraints(pattern=SIGNATURE)]],
    Query(
        alias="signature",
        max_length=16,
        description="Signatures of its statement, each as `<id of the key>:<signature in base64url>`.",
    ),
]


@router.get(
    "/v1/releases/{release}/statement",
    summary="What is signed of a release",
    response_class=Response,
    responses={
        200: {"description": "An in-toto statement", "content": {STATEMENT: {"schema": {"type": "object"}}}},
        **problems(ProblemType.NOT_FOUND, ProblemType.MODEL_NOT_FOUND),
    },
)
@requires(Action.READ)
async def statement(
    release: Named,
    releases: ReleasesDependency,
    collections: CollectionsDependency,
    models: ModelStoreDependency,
    principal: PrincipalDependency,
) -> Response:
    """Names each file of its download with its hash. Takes a key for all collections and documents, as models do."""
    found = await releases.find(need_registry(principal).tenant, release)
    shown = await described(releases, collections, found, principal)
    return Response(await release_statement(models, found, shown), media_type=STATEMENT)


@router.get(
    "/v1/releases/{release}/content",
    summary="Download a release",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A tar archive of its settings, templates and models, in the format that was asked for",
            "content": ARCHIVE,
        },
        **problems(ProblemType.NOT_FOUND, ProblemType.MODEL_NOT_FOUND, ProblemType.QUEUE_FULL),
    },
)
@requires(Action.READ)
async def download(
    release: Named,
    request: Request,
    releases: ReleasesDependency,
    collections: CollectionsDependency,
    models: ModelStoreDependency,
    principal: PrincipalDependency,
    form: Annotated[ArchiveFormat, Query(alias="format", description=FORMAT)] = ArchiveFormat.TAR,
    signatures: Signatures = [],  # noqa: B006  (FastAPI copies it)
) -> Response:
    """Not the index: an import makes that anew. Takes a key for all collections and documents, as models do."""
    found = await releases.find(need_registry(principal).tenant, release)
    shown = await described(releases, collections, found, principal)
    room = state_of(request).model_downloads
    signed = [_signature(one) for one in signatures]

    async def content() -> AsyncIterator[bytes]:
        if room.locked():
            detail = "Other models are being downloaded. Try again in a minute."
            raise Problem(ProblemType.QUEUE_FULL, detail, headers={"Retry-After": "60"})
        async with room:
            async for piece in export_release(models, found, shown, form, signed):
                yield piece

    pieces = content()
    first = await anext(pieces)

    async def everything() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {
        "Content-Disposition": f'attachment; filename="{found.name}.tar"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(everything(), headers=headers, media_type=TAR)


@router.post(
    "/v1/releases/content",
    summary="Upload a release of another installation",
    status_code=status.HTTP_201_CREATED,
    openapi_extra={"requestBody": {"required": True, "content": ARCHIVE}},
    responses=problems(ProblemType.TOO_LARGE, ProblemType.STORAGE_FULL),
)
@requires(Action.WRITE)
async def upload(
    request: Request,
    settings: SettingsDependency,
    models: ModelStoreDependency,
    releases: ReleasesDependency,
    principal: PrincipalDependency,
) -> ImportedRelease:
    """A download in either format; with SLUICE_RELEASE_KEYS, signed with one of these. Stores its models and returns
    its settings. A `reindex` with these makes a version, and `POST /v1/releases` the release of it."""
    need_registry(principal)
    limit = settings.max_model_mb * 2**20
    pieces = read_bounded(request, limit)
    state = state_of(request)
    async with state.model_uploads:
        known, imported = await import_release(
            models, principal.tenant, pieces, by=principal.by(""), most_bytes=limit, keys=state.release_keys
        )
    await releases.note_import(known)
    signers = [f"{signer.name} ({signer.key})" for signer in known.signed_by]
    request.scope[AUDIT_DETAILS] = {"release": known.name, "signed_by": signers}
    return imported


def _signature(text: str) -> tuple[str, bytes]:
    """The id of a key and its signature. Raises Problem INVALID_REQUEST."""
    key, _, signature = text.partition(":")
    try:
        return key, urlsafe_b64decode(signature)
    except ValueError:
        detail = "A signature is not base64url; write <id of the key>:<signature>, with the padding."
        raise Problem(ProblemType.INVALID_REQUEST, detail) from None
