"""The kinds `ingest`, `delete` and `drop`: documents into and out of the index."""

from services.scheduler.ingest import Ingestion
from services.scheduler.kinds import Parts, Perform, job_kind
from services.scheduler.removal import Removal

__all__: list[str] = []


@job_kind("ingest")
def ingest(parts: Parts) -> Perform:
    return Ingestion(
        stages=parts.stages,
        collections=parts.collections,
        documents=parts.documents,
        uploads=parts.uploads,
        vectors=parts.vectors,
        reader=parts.reader,
        settings=parts.settings,
    )


@job_kind("delete")
def delete(parts: Parts) -> Perform:
    return Removal(parts.stages, parts.collections, parts.documents).delete


@job_kind("drop")
def drop(parts: Parts) -> Perform:
    return Removal(parts.stages, parts.collections, parts.documents).drop
