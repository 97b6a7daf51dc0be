from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.jobs.visibility import visible_jobs
from shared.contracts.jobs import Job, JobOptions
from shared.contracts.keys import Action
from shared.contracts.restrictions import Restrictions
from shared.stores.jobs.index import IndexedJob

pytestmark = pytest.mark.anyio

EVERYBODYS = JobOptions(principals=("*",))
OF_ONE_COLLECTION = JobOptions(principals=("*",), collections=("docs",))


def _job(kind: str, options: JobOptions) -> Job:
    return Job(id="j", kind=kind, collection="docs", created_at=0.0, options=options)


async def _restrictions(_: str) -> Restrictions:
    return Restrictions.of({"docs": False})


@pytest.mark.parametrize(
    ("kind", "options", "members", "shown"),
    [
        ("dataset", EVERYBODYS, {}, True),
        ("dataset", EVERYBODYS, {"actions": frozenset({Action.READ, Action.WRITE})}, True),
        ("dataset", EVERYBODYS, {"actions": frozenset({Action.READ})}, False),
        ("dataset", EVERYBODYS, {"collections": ("docs",)}, False),
        ("dataset", EVERYBODYS, {"identity": ("user:alice",)}, False),
        ("dataset", OF_ONE_COLLECTION, {"collections": ("docs",)}, True),
        ("evaluate", EVERYBODYS, {"actions": frozenset({Action.READ})}, True),
    ],
)
async def test_a_job_that_may_hold_feedback_is_there_for_who_sees_everybodys(
    kind: str, options: JobOptions, members: dict[str, Any], shown: bool
) -> None:
    cache = cast("CollectionCache", SimpleNamespace(restrictions=_restrictions))
    visible = await visible_jobs(cache, Principal(tenant="default", **members))
    job = _job(kind, options)
    assert visible(job) is visible(IndexedJob.of(job)) is shown
