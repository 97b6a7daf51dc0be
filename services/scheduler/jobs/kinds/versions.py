"""The kinds `reindex` and `switch`: other versions of a collection."""

from services.scheduler.collections.reindex import Reindexing
from services.scheduler.collections.switch import Switching
from services.scheduler.collections.sync import Mirror
from services.scheduler.jobs.kinds import Parts, Perform, Pool, job_kind

__all__: list[str] = []


@job_kind("reindex", pool=Pool.LONG)
def reindex(parts: Parts) -> Perform:
    return Reindexing(
        board=parts.board,
        stages=parts.stages,
        collections=parts.collections,
        documents=parts.documents,
        indexer=parts.indexer,
        mirror=_mirror(parts),
        switching=_switching(parts),
    )


@job_kind("switch")
def switch(parts: Parts) -> Perform:
    return _switching(parts)


def _mirror(parts: Parts) -> Mirror:
    return Mirror(indexer=parts.indexer, documents=parts.documents, originals=parts.originals)


def _switching(parts: Parts) -> Switching:
    return Switching(
        jetstream=parts.bus.jetstream,
        collections=parts.collections,
        documents=parts.documents,
        mirror=_mirror(parts),
        longest_query=parts.settings.longest_deadline,
    )
