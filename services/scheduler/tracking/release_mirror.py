"""Copies releases to MLflow's model registry: a registered model for each collection, a version for each release.

A copy can be made again at any time, by any scheduler, with the same effect: all releases of a collection are compared
with what the registry has, and what differs is written.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from services.scheduler.tracking.mlflow_client import Entry, MLflowRefusedError
from services.scheduler.tracking.mlflow_registry import MLflowRegistry, ModelVersion
from services.scheduler.tracking.run_mirror import RunMirror
from services.scheduler.tracking.settings import TrackingSettings
from shared.contracts.collections import Collection
from shared.contracts.problems import Problem
from shared.contracts.releases import Release, ReleaseStage
from shared.stores.collections import Collections
from shared.stores.releases import ReleaseStore

__all__ = ["ReleaseMirror"]

RELEASE: Final = "sluice.release"
COLLECTION: Final = "sluice.collection"
STAGE: Final = "sluice.stage"
LIVE: Final = "live"
"""The alias of what answers."""

KEPT_BACK: Final = re.compile(r"latest|v\d+", re.IGNORECASE)
"""Aliases that MLflow does not take."""

LONGEST_TAG: Final = 4_000
LONGEST_METRIC: Final = 20


class ReleaseMirror:
    """One per process. Methods raise MLflowError and nats errors."""

    def __init__(
        self,
        registry: MLflowRegistry,
        settings: TrackingSettings,
        releases: ReleaseStore,
        collections: Collections,
        runs: RunMirror,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._releases = releases
        self._collections = collections
        self._runs = runs
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def copy(self, tenant: str, collection: str) -> None:
        """Bring the copies of a collection's releases up to date."""
        async with self._locks.setdefault(f"{tenant}.{collection}", asyncio.Lock()):
            await self._copy(tenant, collection)

    async def forget(self, release: str) -> None:
        """Remove the copy of a release that was deleted."""
        for version in await self._registry.versions(RELEASE, release):
            await self._registry.delete_version(version)

    async def _copy(self, tenant: str, collection: str) -> None:
        releases = await self._releases.list(tenant, collection)
        if not releases:
            return
        stages = _stages(releases, await self._collection(tenant, collection))
        model = self._settings.mlflow_model.format(tenant=tenant, collection=collection)
        tags = [_tag("sluice.tenant", tenant), _tag(COLLECTION, collection)]
        await self._registry.ensure_model(model, tags, f"Releases of the collection {collection}.")
        there = await self._there(model, collection)
        missing = [release for release in reversed(releases) if release.name not in there]
        for release in missing:
            await self._create(model, release, stages[release.name])
        if missing:
            # One that was deleted since the list was read has been forgotten before it was made.
            left = {release.name for release in await self._releases.list(tenant, collection)}
            for release in missing:
                if release.name not in left:
                    await self.forget(release.name)
            there = await self._there(model, collection)
        for release in releases:
            version, stage = there.get(release.name), stages[release.name]
            if version is not None and version.tags.get(STAGE) != stage:
                await self._registry.set_tag(version, STAGE, stage)
        await self._alias(model, tenant, collection, stages, there)

    async def _there(self, model: str, collection: str) -> dict[str, ModelVersion]:
        """The version of each release, which is the oldest one: two schedulers may have made one each."""
        found: dict[str, ModelVersion] = {}
        for version in await self._registry.versions(COLLECTION, collection, model=model):
            if version.tags.get(RELEASE, "") in found:
                await self._registry.delete_version(version)
            else:
                found[version.tags.get(RELEASE, "")] = version
        return found

    async def _create(self, model: str, release: Release, stage: ReleaseStage) -> None:
        trained = [origin.job for origin in release.models if origin.job]
        runs = [run for job in trained if (run := await self._runs.run_of(release.tenant, job))]
        create = partial(
            self._registry.create_version,
            model,
            source=f"sluice://{release.tenant}/{release.name}",
            tags=_tags(release, stage),
            description=release.description,
        )
        try:
            await create(run=runs[0] if runs else None)
        except MLflowRefusedError as error:
            if not runs or not error.missing:
                raise
            await create(run=None)  # somebody has deleted it there

    async def _alias(
        self,
        model: str,
        tenant: str,
        collection: str,
        stages: Mapping[str, ReleaseStage],
        there: Mapping[str, ModelVersion],
    ) -> None:
        """Give the versions the aliases of their releases, and take all others away."""
        named = dict(await self._releases.aliases(tenant, collection))
        if live := next((name for name, stage in stages.items() if stage is ReleaseStage.LIVE), None):
            named[LIVE] = live
        else:
            named.pop(LIVE, None)
        wanted = {
            alias: there[name].version
            for alias, name in named.items()
            if name in there and not KEPT_BACK.fullmatch(alias)
        }
        known = await self._registry.aliases(model)
        for alias in known.keys() - wanted.keys():
            await self._registry.remove_alias(model, alias)
        for alias, version in wanted.items():
            if known.get(alias) != version:
                await self._registry.set_alias(model, alias, version)

    async def _collection(self, tenant: str, name: str) -> Collection | None:
        try:
            return await self._collections.get(tenant, name)
        except Problem:
            return None


def _stages(releases: list[Release], collection: Collection | None) -> dict[str, ReleaseStage]:
    now = time.time()
    return {release.name: release.stage(collection, now) for release in releases}


def _tags(release: Release, stage: ReleaseStage) -> list[Entry]:
    """What a release is and where it is from, as far as tags hold it; Sluice has the whole of it."""
    content = release.content
    named = {
        RELEASE: release.name,
        COLLECTION: content.collection,
        STAGE: stage,
        "sluice.tenant": release.tenant,
        "sluice.hash": release.hash,
        "sluice.version": content.version,
        "sluice.embedder": content.embedding_model,
        "sluice.reranker": content.rerank_model,
        "sluice.adapter": content.adapter,
        "sluice.pipeline": content.pipeline or "",
        "sluice.generators": ", ".join(f"{one.variant}: {one.model}" for one in content.generators),
        "sluice.dataset": ", ".join(origin.dataset.hash for origin in release.models if origin.dataset.hash),
        "sluice.training": ", ".join(origin.job for origin in release.models if origin.job),
        "sluice.evaluations": ", ".join(evaluation.job for evaluation in release.evaluations),
        "sluice.imported_from": release.imported_from,
        "mlflow.user": release.by,
    }
    for evaluation in release.evaluations:
        figures = [(name, value) for name, value in evaluation.metrics.items() if isinstance(value, int | float)]
        named |= {f"sluice.metric.{name}": f"{value:g}" for name, value in figures[:LONGEST_METRIC]}
    return [_tag(name, str(value)) for name, value in named.items() if value]


def _tag(key: str, value: str) -> Entry:
    return {"key": key, "value": value[:LONGEST_TAG]}
