"""/v1/keys: who may do what"""

import time
from typing import Annotated, Final

from fastapi import Depends, Path, Request, Response, status

from services.gateway.auth.authenticator import Authenticator
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import AuthenticatorDependency, KeysDependency
from services.gateway.http.body import read_json, refuse_other_sites
from services.gateway.http.openapi import problems, request_body
from services.gateway.keys.service import KeyList, NewKey, Rotation, check_rotation, describe_key, issue_key
from shared.contracts.keys import Action, ApiKey, hashed, new_key
from shared.contracts.problems import Problem, ProblemType
from sluice.api import keys as api

__all__ = ["router"]

router = authenticated_router("keys")

MAX_BODY: Final = 64 * 1024

KeyId = Annotated[str, Path(description="The id of a key: the part between `sk-sluice-` and the secret.")]


@router.post(
    "/v1/keys",
    summary="Make an API key",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=request_body(json=NewKey),
    responses=problems(ProblemType.CONFLICT, ProblemType.TOO_LARGE),
)
@requires(Action.ADMIN)
async def create(
    request: Request,
    response: Response,
    authenticator: AuthenticatorDependency,
    keys: KeysDependency,
    principal: PrincipalDependency,
) -> api.IssuedKey:
    """The secret is shown this once. In force here at once, and at every gateway within a second."""
    body = await read_json(request, NewKey, MAX_BODY)
    _refuse_if_open(authenticator)
    key, written = issue_key(body, principal.by(""))
    await keys.create(key)
    authenticator.note(key)
    response.headers["Location"] = f"/v1/keys/{key.id}"
    return _issued(response, key, written)


@router.get("/v1/keys", summary="List the API keys", responses=problems())
@requires(Action.ADMIN)
async def list_all(keys: KeysDependency) -> KeyList:
    """All keys of all tenants, those that were revoked or have expired too, the newest first."""
    return KeyList(keys=[describe_key(key) for key in await keys.list()])


@router.get("/v1/keys/{key}", summary="Look at an API key", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.ADMIN)
async def get(key: KeyId, keys: KeysDependency) -> api.ApiKey:
    return describe_key(await keys.get(key))


@router.post(
    "/v1/keys/{key}/rotate",
    summary="Give an API key a new secret",
    dependencies=[Depends(refuse_other_sites)],
    openapi_extra=request_body(json=Rotation),
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.TOO_LARGE),
)
@requires(Action.ADMIN)
async def rotate(
    key: KeyId, request: Request, response: Response, authenticator: AuthenticatorDependency, keys: KeysDependency
) -> api.IssuedKey:
    """The new secret is shown this once; the one from before goes on for `grace_seconds`."""
    body = await read_json(request, Rotation, MAX_BODY)
    _, written = new_key(key)

    def rotated(known: ApiKey) -> ApiKey:
        check_rotation(known)
        return known.rotated(hashed(written), time.time(), body.grace_seconds)

    changed = await keys.change(key, rotated)
    authenticator.note(changed)
    return _issued(response, changed, written)


@router.delete("/v1/keys/{key}", summary="Revoke an API key", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.ADMIN)
async def revoke(
    key: KeyId, authenticator: AuthenticatorDependency, keys: KeysDependency, principal: PrincipalDependency
) -> api.ApiKey:
    """Ends the key for good, here at once, and at every gateway within a second. It stays in the list, and its jobs go
    on.
    """
    revoked = await keys.revoke(key, principal.by(""))
    authenticator.note(revoked)
    return describe_key(revoked)


def _issued(response: Response, key: ApiKey, written: str) -> api.IssuedKey:
    response.headers["Cache-Control"] = "no-store"
    return api.IssuedKey(key=describe_key(key), secret=written)


def _refuse_if_open(authenticator: Authenticator) -> None:
    """Raises Problem CONFLICT where keys are not asked for: one would shut out everybody who has none."""
    if not authenticator.required:
        detail = "This gateway asks for no keys. Start it with SLUICE_ADMIN_KEY, then make keys with that one."
        raise Problem(ProblemType.CONFLICT, detail)
