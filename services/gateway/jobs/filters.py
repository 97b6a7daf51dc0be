"""The query parameters by which jobs are chosen."""

import re
from collections.abc import Collection
from functools import partial
from typing import Annotated, Final

from fastapi import Depends, Query

from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import CollectionCacheDependency, JobsDependency
from services.gateway.http.problems import invalid_member
from services.gateway.jobs.visibility import visible_jobs
from shared.contracts.jobs import Job, JobState
from shared.contracts.problems import Problem, ProblemType

__all__ = ["JobListing", "JobListingDependency", "check_job_id"]

JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

LabelFilter = Annotated[
    list[str], Query(description="`key=value`; may be repeated: jobs that have all of them.", max_length=32)
]
After = Annotated[str | None, Query(description="Only jobs that are listed after the one with this id.")]


class JobListing:
    """The jobs that a request chooses by its query parameters, as far as they are there for its caller.

    Raises Problem NOT_FOUND for an `after` that is no id, and INVALID_REQUEST for a label that is none.
    """

    def __init__(
        self,
        jobs: JobsDependency,
        cache: CollectionCacheDependency,
        principal: PrincipalDependency,
        state: JobState | None = None,
        kind: str | None = None,
        collection: str | None = None,
        parent: Annotated[str | None, Query(description="Only the steps of this pipeline job.")] = None,
        steps: Annotated[bool, Query(description="Whether to list the steps of pipelines too.")] = True,
        label: LabelFilter = [],  # noqa: B006  (FastAPI copies it)
        after: After = None,
    ) -> None:
        self._cache = cache
        self._principal = principal
        self._list = partial(
            jobs.list,
            principal.tenant,
            state=state,
            kind=kind,
            collection=collection,
            labels=dict(map(_label, label)),
            parent=parent,
            steps=steps,
            after=None if after is None else check_job_id(after),
            sees=principal.sees,
        )

    async def newest(self, limit: int, *, kinds: Collection[str] | None = None) -> tuple[list[Job], str | None]:
        """One page, newest first, and the id to go on after; None where it is the last."""
        shows = await visible_jobs(self._cache, self._principal)
        found = await self._list(kinds=kinds, shows=shows, limit=limit + 1)
        return found[:limit], found[limit - 1].id if len(found) > limit else None


JobListingDependency = Annotated[JobListing, Depends()]


def check_job_id(job: str) -> str:
    """The id. Raises Problem NOT_FOUND for a text that is none."""
    if JOB_ID.fullmatch(job) is None:
        raise Problem(ProblemType.NOT_FOUND, f"There is no job '{job[:80]}'.")
    return job


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise invalid_member("label", f"write key=value, not {text[:80]!r}")
    return key, value
