"""Which jobs are there for a caller: what a job has looked at may be in its errors, its outputs and its files."""

from collections.abc import Callable

from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from shared.contracts.jobs import Job, JobSpec, may_hold_feedback
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import names_in
from shared.stores.jobs.index import IndexedJob
from shared.stores.jobs.store import JobStore

__all__ = ["get_job", "need_artifact", "need_artifacts", "visible_jobs"]


async def visible_jobs(cache: CollectionCache, principal: Principal) -> Callable[[Job | IndexedJob], bool]:
    """Whether a job is there for the caller."""
    if principal.sees_everything:
        return lambda _: True
    known, reads_as = await cache.restrictions(principal.tenant), principal.reads_as

    def visible(job: Job | IndexedJob) -> bool:
        options = job if isinstance(job, IndexedJob) else job.options
        if may_hold_feedback(job.kind, sees_everything=options.sees_everything):
            return False
        return known.show_work(job.collection, options.principals, reads_as)

    return visible


async def get_job(jobs: JobStore, cache: CollectionCache, principal: Principal, job: str) -> Job:
    """Raises Problem NOT_FOUND, or FORBIDDEN for a job with a collection that the caller has no key for."""
    found = await jobs.get(principal.tenant, job)
    principal.need_collection(found.collection)
    if not (await visible_jobs(cache, principal))(found):
        raise _missing(job)
    return found


async def need_artifact(jobs: JobStore, cache: CollectionCache, principal: Principal, owner: str) -> None:
    """Raises Problem as `get_job` does for a file of a job that is not there for the caller."""
    if principal.sees_everything:
        return
    try:
        await jobs.get(principal.tenant, owner)
    except Problem:
        return  # it is a folder, or a job that nobody remembers
    await get_job(jobs, cache, principal, owner)


async def need_artifacts(jobs: JobStore, cache: CollectionCache, principal: Principal, spec: JobSpec) -> None:
    """Raises Problem as `need_artifact` does for files that a job is to read."""
    if principal.sees_everything:
        return
    owners = {name.partition("/")[0] for name in names_in(spec.model_dump(mode="json"))}
    for owner in sorted(owners.union(spec.folders)):
        await need_artifact(jobs, cache, principal, owner)


def _missing(job: str) -> Problem:
    return Problem(ProblemType.NOT_FOUND, f"There is no job '{job[:80]}'.")
