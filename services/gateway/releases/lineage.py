"""Where releases and answers are from: models, the jobs that trained them, and what these were trained on.

What jobs have left behind goes with the history of jobs. So a release keeps what is known when it is made.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from shared.contracts.models import Model
from shared.contracts.problems import Problem
from shared.contracts.releases import DatasetOrigin, Evaluation, ModelOrigin, Release
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore
from shared.stores.models import ModelStore

__all__ = ["Origins"]

MANIFEST: Final = "dataset.json"
LARGEST: Final = 256 * 1024
"""Bytes of a manifest that is kept with a release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Looks them up in the broker's stores. What is not known any more is left empty."""

    models: ModelStore
    jobs: JobStore
    artifacts: Artifacts

    async def of_models(self, tenant: str, names: frozenset[str]) -> tuple[ModelOrigin, ...]:
        """Raises Problem MODEL_NOT_FOUND."""
        return tuple([await self.of_model(await self.models.get(tenant, name)) for name in sorted(names)])

    async def of_model(self, model: Model) -> ModelOrigin:
        origin = ModelOrigin.of(model)
        if not model.job:
            return origin
        train = await self._spec(model.tenant, model.job)
        job = train.get("dataset")
        dataset = DatasetOrigin(hash=model.dataset)
        if isinstance(job, str):
            manifest = await self._manifest(model.tenant, job)
            dataset = DatasetOrigin(job=job, hash=model.dataset or str(manifest.get("hash", "")), manifest=manifest)
        return origin.model_copy(update={"train": train, "dataset": dataset})

    async def known(self, tenant: str, names: frozenset[str]) -> tuple[ModelOrigin, ...]:
        """Of those models that are still there."""
        found = []
        for name in sorted(names):
            try:
                found.append(await self.of_model(await self.models.get(tenant, name)))
            except Problem:
                continue
        return tuple(found)

    async def evaluation(self, tenant: str, job: str) -> Evaluation:
        """A job's outputs as figures. Raises Problem NOT_FOUND."""
        found = await self.jobs.get(tenant, job)
        return Evaluation(job=job, metrics=dict(found.outputs))

    async def refreshed(self, release: Release) -> tuple[ModelOrigin, ...]:
        """The release's models with what is known of them now and was not when it was made."""
        found = []
        for origin in release.models:
            if origin.train and origin.dataset.manifest:
                found.append(origin)
                continue
            try:
                found.append(await self.of_model(await self.models.get(release.tenant, origin.name)))
            except Problem:
                found.append(origin)
        return tuple(found)

    async def _spec(self, tenant: str, job: str) -> dict[str, JsonValue]:
        try:
            spec: dict[str, JsonValue] = (await self.jobs.specs.get(tenant, job)).model_dump(mode="json")
        except (Problem, ValidationError):  # nobody remembers it, or it is of a kind of another version
            return {}
        return spec

    async def _manifest(self, tenant: str, job: str) -> dict[str, JsonValue]:
        name = f"{job}/{MANIFEST}"
        try:
            if await self.artifacts.size(tenant, name) > LARGEST:
                return {}
            found: Any = json.loads(await self.artifacts.get(tenant, name))
        except (Problem, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
