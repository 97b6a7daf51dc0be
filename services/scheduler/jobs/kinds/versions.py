"""The kinds `reindex` and `switch`: other versions of a collection."""

from services.scheduler.collections.reindex import ReindexJob
from services.scheduler.collections.switch import SwitchJob
from services.scheduler.collections.sync import CollectionSync
from services.scheduler.jobs.kinds import JobFunction, Parts, Pool, job_kind

__all__: list[str] = []


@job_kind("reindex", pool=Pool.LONG)
def reindex(parts: Parts) -> JobFunction:
    return ReindexJob(
        board=parts.board,
        stages=parts.stages,
        collections=parts.collections,
        documents=parts.documents,
        indexer=parts.indexer,
        mirror=_mirror(parts),
        switching=_switching(parts),
    )


@job_kind("switch")
def switch(parts: Parts) -> JobFunction:
    return _switching(parts)


def _mirror(parts: Parts) -> CollectionSync:
    return CollectionSync(indexer=parts.indexer, documents=parts.documents, originals=parts.originals)


def _switching(parts: Parts) -> SwitchJob:
    return SwitchJob(
        jetstream=parts.bus.jetstream,
        collections=parts.collections,
        documents=parts.documents,
        mirror=_mirror(parts),
        longest_query=parts.settings.longest_deadline,
    )
