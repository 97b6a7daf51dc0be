"""One job per Idempotency-Key: a repeated request gets the job that the first one made."""

from typing import Annotated, Final

from fastapi import Header

from services.gateway.auth.principal import Principal
from shared.contracts.jobs import Job, job_id
from shared.contracts.problems import Problem, ProblemType
from shared.stores.jobs.store import JobStore, check_same

__all__ = ["IdempotencyKey", "earlier_job", "job_id_for"]

LONGEST_KEY: Final = 255

IdempotencyKey = Annotated[
    str | None,
    Header(description="Requests with the same key make one job; send it again when the outcome is not known."),
]


def job_id_for(principal: Principal, key: str | None) -> str:
    """The id of the job that a request makes. Raises Problem INVALID_REQUEST for an invalid key."""
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isprintable()):
        raise Problem(
            ProblemType.INVALID_REQUEST, f"Idempotency-Key must have 1 to {LONGEST_KEY} printable characters."
        )
    return job_id(principal.tenant, key)


async def earlier_job(
    jobs: JobStore, principal: Principal, key: str | None, job: str, *, kind: str, collection: str
) -> Job | None:
    """The job that an earlier request with this key made.

    One in the state `queued` may never have reached the queue, as its gateway may have died: then repeat the request,
    which has no effect where it is not needed. Raises Problem CONFLICT when the key stands
    for something else.
    """
    if key is None:
        return None
    try:
        found = await jobs.get(principal.tenant, job)
    except Problem as problem:
        if problem.kind is ProblemType.NOT_FOUND:
            return None
        raise
    check_same(found, kind, collection)
    return found
