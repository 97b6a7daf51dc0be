"""The kind `evaluate`: how well a version of a collection answers questions whose answers are known."""

from services.scheduler.evaluation import EvaluateJob
from services.scheduler.jobs.kinds import JobFunction, Parts, Pool, job_kind

__all__: list[str] = []


@job_kind("evaluate", pool=Pool.LONG)
def evaluate(parts: Parts) -> JobFunction:
    return EvaluateJob(
        stages=parts.stages,
        requests=parts.requests,
        collections=parts.collections,
        artifacts=parts.artifacts,
        indexer=parts.indexer,
    )
