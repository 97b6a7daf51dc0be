"""The models that trials have made: those of trials that are not the best are removed."""

from collections.abc import Collection
from dataclasses import dataclass

from services.scheduler.sweeps.state import SweepState, TrialState
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections
from shared.stores.model_users import users_of
from shared.stores.models import ModelStore
from shared.stores.releases import ReleaseStore

__all__ = ["TrialModels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialModels:
    models: ModelStore
    collections: Collections
    releases: ReleaseStore

    async def remove(self, tenant: str, state: SweepState, *, keeping: str = "") -> None:
        """Remove the models of all trials but `keeping`; also one that a trial had made just before it was pruned. A
        model that was there before, or that a collection or a release needs by now, stays. Doing it again changes
        nothing."""
        jobs = {trial.job for trial in state.trials}
        names = {trial.model for trial in state.trials if trial.model}
        if pruned := {trial.job for trial in state.trials if trial.state is TrialState.PRUNED}:
            names |= {model.name for model in await self.models.list(tenant) if model.job in pruned}
        names -= {keeping}
        if not names:
            return
        used = await users_of(self.collections, self.releases, tenant)
        for name in sorted(names - set(used)):
            await self._remove(tenant, name, jobs)

    async def _remove(self, tenant: str, name: str, jobs: Collection[str]) -> None:
        try:
            if (await self.models.get(tenant, name)).job in jobs:
                await self.models.delete(tenant, name)
        except Problem as problem:
            if problem.kind is not ProblemType.MODEL_NOT_FOUND:
                raise
