"""The scheduler: takes `job.*`, both lanes, and asks stages for their part of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.scheduler.documents import DocumentReader
from services.scheduler.ingest import Ingestion
from services.scheduler.removal import Removal
from services.scheduler.runner import JobRunner
from services.scheduler.settings import SchedulerSettings
from services.scheduler.stages import StageClient
from services.scheduler.worker import JobWorker
from shared.bus import Bus
from shared.dead_letters import DeadLetters
from shared.job_board import JobBoard
from shared.records import Collections, Documents
from shared.service import ASGIApp, Service
from shared.topology import UPLOADS, VECTORS

__all__ = ["make"]


def make(settings: SchedulerSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[Sequence[JobWorker]]:
        async with _reader(settings) as reader:
            runner = await _runner(service.bus, settings, reader)
            yield [JobWorker(service.bus, runner, room=settings.job_room, ack_wait=settings.ack_wait)]

    service = Service("scheduler", settings, setup)
    return service, service.asgi()


def _reader(settings: SchedulerSettings) -> DocumentReader:
    return DocumentReader(
        workers=settings.reader_workers,
        tokenizer=settings.tokenizer,
        max_tokens=settings.chunk_tokens,
        overlap_tokens=settings.chunk_overlap,
        time_limit_s=settings.reader_seconds,
        memory_limit_bytes=settings.reader_memory_mb * 2**20,
    )


async def _runner(bus: Bus, settings: SchedulerSettings, reader: DocumentReader) -> JobRunner:
    stages = StageClient(bus, asker=settings.instance, seconds=settings.stage_seconds, tries=settings.stage_tries)
    collections = Collections(bus.jetstream)
    documents = Documents(bus.jetstream)
    ingest = Ingestion(
        stages=stages,
        collections=collections,
        documents=documents,
        uploads=await bus.jetstream.object_store(UPLOADS),
        vectors=await bus.jetstream.object_store(VECTORS),
        reader=reader,
        settings=settings,
    )
    removal = Removal(stages, collections, documents)
    return JobRunner(
        JobBoard(bus.client, bus.jetstream),
        DeadLetters(bus.client, bus.jetstream),
        {"ingest": ingest, "delete": removal.delete, "drop": removal.drop},
        max_deliver=settings.job_max_deliver,
        ack_wait=settings.ack_wait,
    )
