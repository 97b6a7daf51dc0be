"""Releases as the API makes them and shows them."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.jobs.visibility import get_job
from services.gateway.openai.models.model_registry import GENERATE, ModelRegistry
from services.gateway.queries.pipelines import DEFAULT, Pipelines
from services.gateway.releases.lineage import Origins
from services.gateway.releases.models import NewRelease
from shared.contracts.collections import Collection, VersionState
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import (
    Generator,
    Release,
    ReleaseContent,
    ReleaseEvent,
    ReleaseStage,
    release_name,
)
from shared.contracts.routes import Route
from shared.stores.collections import Collections
from shared.stores.jobs.store import JobStore
from shared.stores.releases import ReleaseStore
from sluice.api import releases as api

__all__ = ["create_release", "described", "for_caller", "generators", "listed", "need_release", "need_runs"]


async def create_release(
    releases: ReleaseStore,
    collections: Collections,
    origins: Origins,
    pipelines: Pipelines,
    running: tuple[Generator, ...],
    principal: Principal,
    body: NewRelease,
) -> Release:
    """A version of a collection as it is now, as a release. The same again is the same release.

    Raises Problem COLLECTION_NOT_FOUND, NOT_FOUND, VERSION_NOT_READY, PIPELINE_NOT_FOUND or MODEL_NOT_FOUND.
    """
    tenant = principal.tenant
    collection = await collections.get(tenant, body.collection)
    version = collection.version(body.version or collection.live.name)
    if version.state in (VersionState.BUILDING, VersionState.LEAVING):
        detail = f"The version '{version.name}' is {version.state}: a release needs one that can answer."
        raise Problem(ProblemType.VERSION_NOT_READY, detail)
    models = await origins.of_models(tenant, version.models)
    hashes = {model.name: model.hash for model in models}
    content = ReleaseContent.of(
        collection,
        version,
        embedding_hash=hashes.get(version.embedding_model, ""),
        rerank_hash=hashes.get(version.rerank_model, ""),
        adapter_hash=hashes.get(version.adapter, ""),
        stops=pipelines.get(collection.pipeline or DEFAULT),
        templates=body.templates,
        generators=running,
    )
    by = principal.by("")
    imported = await releases.find_import(tenant, body.imported_from)
    signers = imported.signers_of(content) if imported else ()
    reasons = (body.description, f"signed by {', '.join(one.name for one in signers)}" if signers else "")
    first = ReleaseStage.LIVE if version.state is VersionState.LIVE else ReleaseStage.CANDIDATE
    release = Release(
        name=release_name(content.hash),
        tenant=tenant,
        hash=content.hash,
        content=content,
        models=models,
        evaluations=tuple(await asyncio.gather(*(origins.evaluation(tenant, job) for job in body.evaluations))),
        imported_from=body.imported_from,
        signed_by=signers,
        created_at=time.time(),
        by=by,
        description=body.description,
        events=(ReleaseEvent(at=time.time(), stage=first, by=by, reason="; ".join(filter(None, reasons))),),
    )
    release = await releases.put(release)

    def named(now: Collection) -> Collection:
        known = now.find(version.name)
        # Settings that somebody has changed meanwhile are not what was released.
        same = known is not None and ReleaseContent.of(now, known) == ReleaseContent.of(collection, version)
        return now.changed(version.name, release=release.name) if same else now

    await collections.update(collection, named)
    return release


async def generators(models: ModelRegistry, routes: Mapping[str, Route]) -> tuple[Generator, ...]:
    """The variants of the stage that writes answers, as far as they answer now, each with its share of queries."""
    shares = (routes.get(GENERATE) or Route(stage=GENERATE)).shares
    found = {model.variant: model.name for model in await models.all() if model.stage == GENERATE}
    return tuple(
        Generator(variant=variant, model=found.get(variant, ""), weight=round(shares.get(variant, 0.0), 6))
        for variant in sorted({*found, *shares})
    )


def need_release(principal: Principal, release: Release) -> Release:
    """Raises Problem FORBIDDEN where the caller has no key for its collection."""
    principal.need_collection(release.content.collection)
    return release


async def need_runs(jobs: JobStore, cache: CollectionCache, principal: Principal, names: Sequence[str]) -> None:
    """Raises Problem NOT_FOUND or FORBIDDEN for jobs whose figures the caller may not see."""
    for name in names:
        await get_job(jobs, cache, principal, name)


def for_caller(origins: tuple[api.ModelOrigin, ...], principal: Principal) -> tuple[api.ModelOrigin, ...]:
    """Where models are from, as far as the caller may know: trainings and data sets are of the tenant's whole."""
    if principal.sees_everything:
        return origins
    return tuple(
        origin.model_copy(update={"train": {}, "dataset": origin.dataset.model_copy(update={"manifest": {}})})
        for origin in origins
    )


async def listed(
    releases: ReleaseStore, collections: Collections, principal: Principal, collection: str | None
) -> list[api.Release]:
    """Those of the collections that the caller may see, the newest first."""
    found = await releases.list(principal.tenant, collection)
    seen = [one for one in found if principal.sees(one.content.collection)]
    names = sorted({one.content.collection for one in seen})
    aliases = {name: await releases.aliases(principal.tenant, name) for name in names}
    records = {record.name: record for record in await collections.list(principal.tenant)}
    return [
        _shown(one, records.get(one.content.collection), aliases[one.content.collection], principal) for one in seen
    ]


async def described(
    releases: ReleaseStore, collections: Collections, release: Release, principal: Principal
) -> api.Release:
    """As the API says it."""
    try:
        collection = await collections.get(release.tenant, release.content.collection)
    except Problem:
        collection = None
    return _shown(release, collection, await releases.aliases(release.tenant, release.content.collection), principal)


def _shown(
    release: Release, collection: Collection | None, aliases: Mapping[str, str], principal: Principal
) -> api.Release:
    members = release.model_dump(mode="json", exclude={"tenant": True, "content": {"table", "collection_id"}})
    own = tuple(sorted(alias for alias, name in aliases.items() if name == release.name))
    shown = api.Release.model_validate({**members, "stage": release.stage(collection, time.time()), "aliases": own})
    return shown.model_copy(update={"models": for_caller(shown.models, principal)})
