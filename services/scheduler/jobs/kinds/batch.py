"""The kind `batch`: every line of a JSONL file is a request that is answered on the batch lane."""

from services.scheduler.batches.batch import BatchJob
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobFunction, Parts, Pool, job_kind
from shared.contracts.jobs import BatchSpec

__all__: list[str] = []


@job_kind("batch", pool=Pool.LONG)
def batch(parts: Parts) -> JobFunction:
    async def perform(run: JobContext) -> None:
        assert isinstance(run.spec, BatchSpec)
        answering = BatchJob(parts, run, run.spec)
        try:
            await answering.answer()
        finally:
            answering.close()

    return perform
