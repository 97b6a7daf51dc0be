"""Who is told what of a release."""

from typing import Any, cast

import pytest

from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.releases.service import for_caller, need_runs
from shared.contracts.jobs import Job, JobOptions
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.restrictions import Restrictions
from shared.stores.jobs.store import JobStore
from sluice.api.releases import DatasetOrigin, ModelOrigin

pytestmark = pytest.mark.anyio

ORIGIN = ModelOrigin(
    name="m-0123456789ab",
    train={"kind": "train", "dataset": "d1"},
    dataset=DatasetOrigin(job="d1", hash="d" * 64, manifest={"collection": "private"}),
)


class Jobs:
    async def get(self, tenant: str, name: str) -> Job:
        if name != "evaluation":
            raise Problem(ProblemType.NOT_FOUND, name)
        return Job(id=name, tenant=tenant, kind="evaluate", collection="private", created_at=1.0, options=JobOptions())


class Cache:
    async def restrictions(self, tenant: str) -> Any:
        return Restrictions(restricted=frozenset(), open=frozenset())


def test_where_a_models_data_are_from_is_for_those_who_see_the_whole_tenant() -> None:
    assert for_caller((ORIGIN,), Principal(tenant="acme", principals=("*",))) == (ORIGIN,)
    for narrow in (
        Principal(tenant="acme", principals=("*",), collections=("docs",)),
        Principal(tenant="acme", identity=("user:ann",)),
    ):
        (shown,) = for_caller((ORIGIN,), narrow)
        assert (shown.train, shown.dataset.manifest) == ({}, {})
        assert (shown.name, shown.dataset.hash) == (ORIGIN.name, ORIGIN.dataset.hash)


async def test_figures_of_a_job_are_released_only_by_who_may_see_the_job() -> None:
    jobs, cache = cast("JobStore", Jobs()), cast("CollectionCache", Cache())
    await need_runs(jobs, cache, Principal(tenant="acme", principals=("*",)), ["evaluation"])
    with pytest.raises(Problem) as caught:
        await need_runs(jobs, cache, Principal(tenant="acme", collections=("docs",)), ["evaluation"])
    assert caught.value.kind is ProblemType.FORBIDDEN
    with pytest.raises(Problem) as caught:
        await need_runs(jobs, cache, Principal(tenant="acme"), ["nothing"])
    assert caught.value.kind is ProblemType.NOT_FOUND
