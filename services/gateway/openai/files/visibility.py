"""Which files are there for a caller: those that a job has made, as that job is."""

from collections.abc import Sequence

from services.gateway.auth.principal import Principal
from services.gateway.collections.cache import CollectionCache
from services.gateway.jobs.visibility import visible_jobs
from shared.contracts.problems import Problem, ProblemType
from shared.stores.files import FileRecord, Files
from shared.stores.jobs.store import JobStore

__all__ = ["get_file", "visible_files"]


async def get_file(files: Files, jobs: JobStore, cache: CollectionCache, principal: Principal, file: str) -> FileRecord:
    """Raises Problem NOT_FOUND."""
    record = await files.get(principal.tenant, file)
    if not await visible_files(jobs, cache, principal, [record]):
        raise Problem(ProblemType.NOT_FOUND, f"There is no file '{file[:80]}'.")
    return record


async def visible_files(
    jobs: JobStore, cache: CollectionCache, principal: Principal, records: Sequence[FileRecord]
) -> list[FileRecord]:
    """Those of the records that are there for the caller, in their order."""
    if principal.sees_all or not (await cache.restrictions(principal.tenant)).restricted:
        return list(records)
    visible = await visible_jobs(cache, principal)
    seen: dict[str, bool] = {}
    for owner in {_owner(record) for record in records}:
        try:
            seen[owner] = visible(await jobs.get(principal.tenant, owner))
        except Problem:
            seen[owner] = True  # it was uploaded, or nobody remembers the job
    return [record for record in records if seen[_owner(record)]]


def _owner(record: FileRecord) -> str:
    """The job that has made the file, or the file itself where it was uploaded."""
    return record.artifact.partition("/")[0]
