"""Running a job again that has failed: once more, whatever its retry policy says."""

import time
from typing import Final

from shared.contracts.jobs.job import Job, JobState
from shared.contracts.problems import Problem, ProblemType
from shared.stores.dead_letters import DeadLetters
from shared.stores.jobs.store import JobStore

__all__ = ["run_again"]

UNENDED: Final = {"finished_at": None, "error": None, "cancel_requested": False}


async def run_again(jobs: JobStore, letters: DeadLetters, tenant: str, job: str, *, by: str, reason: str) -> Job:
    """Put a failed job on the queue again and forget its dead letter. It gets as long as it was given at first.

    A second request before it has run gets the same try. Raises Problem NOT_FOUND, CONFLICT where it
    has not failed, and QUEUE_FULL.
    """
    failed = await jobs.get(tenant, job)
    if failed.state is not JobState.FAILED:
        detail = f"Only a failed job can be tried again; this one {_stands(failed.state)}."
        raise Problem(ProblemType.CONFLICT, detail)
    spec = await jobs.specs.get(tenant, job)
    deadline = failed.options.deadline
    if deadline is not None:
        deadline = time.time() + (deadline - failed.created_at)
    options = failed.options.model_copy(update={"deadline": deadline})

    def renewed(entry: Job) -> Job:
        return entry.model_copy(update={"options": options})

    def waiting(entry: Job) -> Job:
        if entry.state is not JobState.FAILED or entry.attempt != failed.attempt:
            return entry  # it runs already, or has run
        return entry.model_copy(update=UNENDED | {"state": JobState.QUEUED})

    # The new deadline is there before the job can run; its state says that it waits once that is certain.
    renewed_job = await jobs.update(tenant, job, renewed, reopen=True)
    await jobs.requeue(spec, renewed_job, attempt=failed.attempt + 1, reopen=True)
    queued = await jobs.update(tenant, job, waiting, reopen=True, by=by, reason=reason or "tried again")
    for letter in await letters.of_job(spec.kind, tenant, job):
        await letters.forget(letter)
    return queued


def _stands(state: JobState) -> str:
    return f"has been {state}" if state is JobState.CANCELLED else f"is {state}" if not state.ended else f"has {state}"
