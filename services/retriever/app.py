"""The retriever: takes `query.retrieve`, both lanes, and as variant `default` also `query.index`, the batch lane."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import numpy as np

from services.retriever.serving.store import ServingStore
from services.retriever.settings import RetrieverSettings
from services.retriever.stages.index import Index
from services.retriever.stages.retrieve import Retrieve
from services.retriever.stores.base import Chunk, IndexedDocument, Store
from services.retriever.stores.lance.store import LanceStore
from services.retriever.stores.maintenance_scheduler import MaintenanceScheduler
from services.retriever.stores.qdrant.address import is_qdrant
from shared.contracts.envelope import Lane, Query, Stop, pack_vector
from shared.contracts.indexing import IndexChange
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import VECTORS
from shared.runtime.stage import Stage
from shared.service.service import ASGIApp, Service

__all__ = ["make"]

DEFAULT = "default"
CANARY_VECTOR = (1.0, 0.0, 0.0, 0.0)
CANARY = "canary"
"""A table of one passage: no collection's table has this name, as those end in a random suffix."""


def make(settings: RetrieverSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[Sequence[Stage]]:
        store = await _open(settings, service)
        await _write_canary(store)
        maintenance = MaintenanceScheduler(
            store,
            pause=settings.upkeep_pause,
            commits=settings.upkeep_commits,
            passages=settings.upkeep_passages,
        )
        vectors = await service.bus.jetstream.object_store(VECTORS)
        try:
            async with maintenance.running():
                stages = [_retrieve(settings, Retrieve(store))]
                if settings.retriever_variant == DEFAULT:
                    # Another version, or one that reads another index, is to answer queries and not to write.
                    stages.append(_index(Index(store, vectors, maintenance.changed)))
                yield stages
        finally:
            await store.close()

    service = Service("retriever", settings, setup)
    return service, service.asgi()


async def _open(settings: RetrieverSettings, service: Service) -> Store:
    if is_qdrant(settings.uri):
        return await _open_qdrant(settings, service)
    disk = await LanceStore.open(
        settings.uri,
        consistency=timedelta(seconds=settings.index_freshness),
        index_from_rows=settings.index_from_rows,
        storage_options=settings.index_storage_options,
    )
    if not settings.index_memory_mb:
        return disk
    return ServingStore(
        disk, memory=settings.index_memory_mb, freshness=settings.index_freshness, cache=settings.cache_dir
    )


async def _open_qdrant(settings: RetrieverSettings, service: Service) -> Store:
    """Wait for the server. Raises RefusedError where it cannot be used, Problem where it stays away."""
    # Only here: the client is installed where it is needed, and takes time to import.
    from services.retriever.stores.qdrant.store import QdrantStore

    store = QdrantStore.open(
        settings.uri, api_key=settings.index_api_key.get_secret_value(), freshness=settings.index_freshness
    )
    service.starting("connecting to Qdrant")
    await store.connect(service.starting)
    service.obstacle = store.obstacle
    return store


def _retrieve(settings: RetrieverSettings, process: Retrieve) -> Stage:
    canary = _canary_query(Stop(stage="retrieve", variant=settings.retriever_variant))
    return Stage(
        name="retrieve",
        variant=settings.retriever_variant,
        process=process,
        room=settings.retriever_room,
        canary=canary,
    )


def _index(process: Index) -> Stage:
    # One writer at a time over all replicas: commits to one table would otherwise get in each other's way.
    change = IndexChange(table=CANARY)
    return Stage(
        name="index",
        process=process,
        lanes=(Lane.BATCH,),
        batch_room=1,
        exclusive=True,
        canary=_canary_query(Stop(stage="index", params=change.as_params())),
    )


def _canary_query(stop: Stop) -> Query:
    vector = pack_vector(CANARY_VECTOR)
    return Query(
        id=CANARY, asked_at=0, deadline=0, reply="-", slip=(stop,), question=CANARY, collection=CANARY, embedding=vector
    )


async def _write_canary(store: Store) -> None:
    """Also where the disk has damaged the one from before."""
    try:
        await store.replace(CANARY, [_canary_document()])
    except Problem as problem:
        if problem.kind is not ProblemType.INDEX_DAMAGED:
            raise
        await store.drop(CANARY)
        await store.replace(CANARY, [_canary_document()])


def _canary_document() -> IndexedDocument:
    chunk = Chunk(position=0, text=CANARY, vector=np.array(CANARY_VECTOR, dtype=np.float32))
    return IndexedDocument(id=CANARY, name=CANARY, version="1", revision=1, chunks=[chunk])
