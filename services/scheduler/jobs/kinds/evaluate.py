"""The kind `evaluate`: how well a version of a collection answers questions whose answers are known."""

from services.scheduler.evaluation import Evaluating
from services.scheduler.jobs.kinds import Parts, Perform, Pool, job_kind

__all__: list[str] = []


@job_kind("evaluate", pool=Pool.LONG)
def evaluate(parts: Parts) -> Perform:
    return Evaluating(
        stages=parts.stages,
        requests=parts.requests,
        collections=parts.collections,
        artifacts=parts.artifacts,
        indexer=parts.indexer,
    )
