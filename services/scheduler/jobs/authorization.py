"""What a job may name: a collection of its submitter's key, and files of jobs that are there for its submitter.

The gateway asks the same of a request. What a pipeline fills in as it runs is known only here, and so is the job behind
a file's id.
"""

from nats.js import JetStreamContext

from shared.contracts.jobs import Job, JobSpec, may_hold_feedback
from shared.contracts.keys import permitted
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.restrictions import Restrictions
from shared.stores.artifacts import names_in
from shared.stores.collection_index import CollectionIndex
from shared.stores.files import Files, ids_in
from shared.stores.jobs.store import JobStore

__all__ = ["JobAuthorizer"]


class JobAuthorizer:
    """Checks each job before it begins."""

    def __init__(self, jetstream: JetStreamContext, job_store: JobStore) -> None:
        self._job_store = job_store
        self._files = Files(jetstream)
        self._collections = CollectionIndex(jetstream)

    async def check(self, job: Job, spec: JobSpec) -> None:
        """Raises Problem FORBIDDEN for a collection that the submitter may not name, NOT_FOUND for a file of a job that
        is not there for the submitter."""
        collection = getattr(spec, "collection", "")
        if collection and not permitted(job.options.collections, collection):
            detail = f"The submitter of the job has no access to the collection '{collection}'."
            raise Problem(ProblemType.FORBIDDEN, detail)
        if job.options.sees_everything:
            return
        content = spec.model_dump(mode="json")
        named = {name: name.partition("/")[0] for name in names_in(content)} | {name: name for name in spec.folders}
        for file in set(ids_in(content)):
            named[file] = await self._owner(job.tenant, file)
        if not named:
            return
        restrictions = await self._collections.restrictions(job.tenant)
        shown = {owner: await self._shows(job, owner, restrictions) for owner in set(named.values())}
        if hidden := sorted(name for name, owner in named.items() if not shown[owner]):
            raise Problem(ProblemType.NOT_FOUND, f"There is no file '{hidden[0][:80]}'.")

    async def _owner(self, tenant: str, file: str) -> str:
        """The job that has made the file, or the file itself."""
        try:
            return (await self._files.get(tenant, file)).artifact.partition("/")[0]
        except Problem:
            return file

    async def _shows(self, job: Job, owner: str, restrictions: Restrictions) -> bool:
        """Whether what `owner` has made is there for the submitter of the job."""
        try:
            made_by = await self._job_store.get(job.tenant, owner)
        except Problem:
            return True  # it was uploaded, or nobody remembers the job
        if may_hold_feedback(made_by.kind, sees_everything=made_by.options.sees_everything):
            return False
        permits = not made_by.collection or permitted(job.options.collections, made_by.collection)
        return permits and restrictions.show_work(
            made_by.collection, made_by.options.principals, job.options.principals or ()
        )
