"""The kinds `ingest`, `delete` and `drop`: documents into and out of the index."""

from services.scheduler.collections.delete import Removal
from services.scheduler.ingestion.ingest import Ingestion
from services.scheduler.jobs.kinds import Parts, Perform, job_kind

__all__: list[str] = []


@job_kind("ingest")
def ingest(parts: Parts) -> Perform:
    return Ingestion(
        indexer=parts.indexer,
        collections=parts.collections,
        documents=parts.documents,
        uploads=parts.uploads,
        settings=parts.settings,
    )


@job_kind("delete")
def delete(parts: Parts) -> Perform:
    return _removal(parts).delete


@job_kind("drop")
def drop(parts: Parts) -> Perform:
    return _removal(parts).drop


def _removal(parts: Parts) -> Removal:
    return Removal(
        stages=parts.stages,
        indexer=parts.indexer,
        collections=parts.collections,
        documents=parts.documents,
        originals=parts.originals,
    )
