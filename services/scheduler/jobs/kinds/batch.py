"""The kind `batch`: every line of a JSONL file is a request that is answered on the batch lane."""

from services.scheduler.batches.batch import BatchAnswering
from services.scheduler.jobs.job_context import JobRun
from services.scheduler.jobs.kinds import Parts, Perform, Pool, job_kind
from shared.contracts.jobs import BatchSpec

__all__: list[str] = []


@job_kind("batch", pool=Pool.LONG)
def batch(parts: Parts) -> Perform:
    async def perform(run: JobRun) -> None:
        assert isinstance(run.spec, BatchSpec)
        answering = BatchAnswering(parts, run, run.spec)
        try:
            await answering.answer()
        finally:
            answering.close()

    return perform
