"""The kinds `ingest`, `delete` and `drop`: documents into and out of the index."""

from services.scheduler.collections.delete import DeleteJob
from services.scheduler.ingestion.ingest import IngestJob
from services.scheduler.jobs.kinds import JobFunction, Parts, job_kind

__all__: list[str] = []


@job_kind("ingest")
def ingest(parts: Parts) -> JobFunction:
    return IngestJob(
        indexer=parts.indexer,
        collections=parts.collections,
        documents=parts.documents,
        uploads=parts.uploads,
        settings=parts.settings,
    )


@job_kind("delete")
def delete(parts: Parts) -> JobFunction:
    return _removal(parts).delete


@job_kind("drop")
def drop(parts: Parts) -> JobFunction:
    return _removal(parts).drop


def _removal(parts: Parts) -> DeleteJob:
    return DeleteJob(
        stages=parts.stages,
        indexer=parts.indexer,
        collections=parts.collections,
        documents=parts.documents,
        originals=parts.originals,
    )
