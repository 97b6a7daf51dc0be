"""Models of the store, and who needs them."""

from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread

from services.gateway.auth.principal import Principal
from services.gateway.registry.temporary import temporary_folder
from services.gateway.registry.transfer import dimensions_in, extracted
from shared.contracts.models import Model, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections
from shared.stores.model_users import users_of
from shared.stores.models import ModelStore
from shared.stores.releases import ReleaseStore
from sluice.api.registry import RegisteredModel

__all__ = ["add_model", "delete_model", "described", "need_registry"]


def need_registry(principal: Principal) -> Principal:
    """Raises Problem FORBIDDEN: models are made of what is in any collection of the tenant."""
    if not principal.sees_everything:
        raise Problem(ProblemType.FORBIDDEN, "Models take a key that sees all collections and documents.")
    return principal


async def add_model(
    models: ModelStore,
    tenant: str,
    pieces: AsyncIterator[bytes],
    kind: ModelKind,
    *,
    expected: str,
    base: str,
    description: str,
    by: str,
) -> Model:
    """Store the model in an archive. Raises Problem INVALID_REQUEST for what is refused."""
    async with temporary_folder() as folder:
        await extracted(pieces, folder)
        dimensions = await _dimensions(folder) if kind is ModelKind.EMBEDDER else None
        return await models.put(
            tenant,
            folder,
            kind,
            base=base,
            description=description,
            by=by,
            dimensions=dimensions,
            expected=expected,
        )


async def delete_model(
    models: ModelStore, collections: Collections, releases: ReleaseStore, tenant: str, name: str
) -> None:
    """Raises Problem MODEL_NOT_FOUND, or CONFLICT while it is needed."""
    await models.get(tenant, name)
    if used_by := (await users_of(collections, releases, tenant)).get(name):
        some = ", ".join(used_by[:5])
        detail = (
            f"The model '{name}' is used by {some}{' and others' if len(used_by) > 5 else ''}. Reindex these "
            "collections with another model until these versions are gone, delete these releases, and then the model."
        )
        raise Problem(ProblemType.CONFLICT, detail, used_by=used_by)
    await models.delete(tenant, name)


def described(model: Model, used_by: list[str] | None = None) -> RegisteredModel:
    """As the API says it."""
    members = model.model_dump(exclude={"tenant"})
    return RegisteredModel.model_validate({**members, "size": model.size, "used_by": tuple(used_by or ())})


async def _dimensions(folder: Path) -> int | None:
    return await to_thread.run_sync(dimensions_in, folder)
