"""The scheduler: consumes `job.*` and due timers, and calls stages for the work that is theirs."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from services.scheduler.clients.embed import PassageEmbedder
from services.scheduler.clients.requests import Requests
from services.scheduler.collections.index_check import IndexCheck
from services.scheduler.collections.index_scan import scan_indices
from services.scheduler.commands.garbage_collector import collect_garbage
from services.scheduler.ingestion.chunking.chunker import Chunking
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.originals import Originals
from services.scheduler.ingestion.reader.reader import DocumentReader
from services.scheduler.jobs.kinds import JobDependencies, Pool, load_kinds
from services.scheduler.jobs.queue import JobQueue
from services.scheduler.jobs.retry import forward_due_retry
from services.scheduler.jobs.runner import JobRunner
from services.scheduler.schedules.ticker import Ticker
from services.scheduler.schedules.timers import TimerWorker
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tracking.facts import FactRecorder
from services.scheduler.tracking.mlflow_client import MLflowClient
from services.scheduler.tracking.mlflow_registry import MLflowRegistry
from services.scheduler.tracking.release_mirror import ReleaseMirror
from services.scheduler.tracking.release_worker import ReleaseCopyWorker
from services.scheduler.tracking.run_mirror import RunMirror
from services.scheduler.tracking.run_worker import RunCopyWorker
from shared.fairness import FairShare
from shared.nats.subjects import UPLOADS, VECTORS
from shared.runtime.delivery import Delivery
from shared.runtime.replies import SCHEDULERS
from shared.runtime.requester import Requester
from shared.service.asyncapi import describe_jobs
from shared.service.bus import Bus
from shared.service.service import ASGIApp, Service, Worker
from shared.service.storage import Storage
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.stores.dead_letters import DeadLetters
from shared.stores.documents import Documents
from shared.stores.files import Files
from shared.stores.jobs.store import JobStore, cancel_subject
from shared.stores.kept_questions import KeptQuestions
from shared.stores.lease import Lease
from shared.stores.models import ModelStore
from shared.stores.payload_log import PayloadLog
from shared.stores.releases import ReleaseStore
from shared.tasks import background

__all__ = ["make"]


def make(settings: SchedulerSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[Sequence[Worker]]:
        async with _reader(settings) as reader:
            parts = await _parts(service.bus, settings, reader)
            scan = scan_indices(parts.collections, IndexCheck(parts.stages, parts.documents))
            async with (
                collect_garbage(settings, parts.job_store, service.bus.jetstream),
                background(scan),
                _watching_drift(service.bus, settings),
                _watching_questions(parts),
                _mirrors(parts) as mirrors,
            ):
                yield [*await _workers(parts), *mirrors]

    service = Service("scheduler", settings, setup, storage=Storage.NEEDED)
    describe_jobs(service.bus.broker)
    return service, service.asgi()


@asynccontextmanager
async def _watching_drift(bus: Bus, settings: SchedulerSettings) -> AsyncIterator[None]:
    if not settings.drift:
        yield
        return
    from services.scheduler.drift.watch import watch_drift  # NumPy is loaded by those alone who watch

    async with background(watch_drift(PayloadLog(bus.jetstream), settings)):
        yield


@asynccontextmanager
async def _watching_questions(parts: JobDependencies) -> AsyncIterator[None]:
    settings, jetstream = parts.settings, parts.bus.jetstream
    if not settings.question_drift:
        yield
        return
    from services.scheduler.drift.question_watch import QuestionWatch  # NumPy, as above

    watch = QuestionWatch(
        questions=KeptQuestions(jetstream),
        collections=parts.collections,
        embedder=PassageEmbedder(parts.stages, most=settings.embed_passages, weights=settings.weights),
        embed_stop=parts.indexer.embed_stop,
        lease=Lease(jetstream, "question-drift"),
        settings=settings,
    )
    async with background(watch.run()):
        yield


def _reader(settings: SchedulerSettings) -> DocumentReader:
    return DocumentReader(
        workers=settings.reader_workers,
        spare=settings.reader_spare,
        weights=settings.weights,
        tokenizer=settings.tokenizer,
        chunking=Chunking(max_tokens=settings.chunk_tokens, overlap_tokens=settings.chunk_overlap),
        time_limit_s=settings.reader_seconds,
        memory_limit_bytes=settings.reader_memory_mb * 2**20,
    )


async def _parts(bus: Bus, settings: SchedulerSettings, reader: DocumentReader) -> JobDependencies:
    stages = Requester(
        bus.client,
        bus.jetstream,
        bus.topology,
        name=SCHEDULERS,
        seconds=settings.stage_seconds,
        tries=settings.stage_tries,
    )
    artifacts = Artifacts(bus.jetstream)
    collections, documents = Collections(bus.jetstream), Documents(bus.jetstream)
    vectors = await bus.jetstream.object_store(VECTORS)
    originals = Originals(bus.jetstream, documents)
    return JobDependencies(
        bus=bus,
        settings=settings,
        job_store=JobStore(bus.client, bus.jetstream),
        stages=stages,
        requests=Requests(
            stages,
            artifacts,
            room=FairShare(settings.request_room, weights=settings.weights),
            seconds=settings.longest_deadline,
        ),
        collections=collections,
        documents=documents,
        originals=originals,
        indexer=Indexer(
            stages=stages,
            collections=collections,
            documents=documents,
            vectors=vectors,
            originals=originals,
            reader=reader,
            settings=settings,
        ),
        artifacts=artifacts,
        files=Files(bus.jetstream),
        models=ModelStore(bus.jetstream),
        uploads=await bus.jetstream.object_store(UPLOADS),
    )


@asynccontextmanager
async def _mirrors(dependencies: JobDependencies) -> AsyncIterator[Sequence[Worker]]:
    """What copies experiment runs to MLflow, where that is set."""
    settings, bus = dependencies.settings, dependencies.bus
    if settings.mlflow_uri is None:
        yield ()
        return
    client = MLflowClient(settings)
    try:
        runs = RunMirror(client, settings, dependencies.job_store, dependencies.artifacts, bus.jetstream)
        workers: list[Worker] = [RunCopyWorker(bus, dependencies.job_store, runs, settings, ack_wait=settings.ack_wait)]
        if settings.mlflow_model:
            registry, store = MLflowRegistry(client), ReleaseStore(bus.jetstream)
            releases = ReleaseMirror(registry, settings, store, dependencies.collections, runs)
            workers.append(ReleaseCopyWorker(bus, releases, settings, ack_wait=settings.ack_wait))
        yield workers
    finally:
        await client.close()


async def _workers(dependencies: JobDependencies) -> list[Worker]:
    bus, settings = dependencies.bus, dependencies.settings
    kinds = load_kinds(dependencies)
    runner = JobRunner(
        bus,
        dependencies.job_store,
        dependencies.artifacts,
        DeadLetters(bus.client, bus.jetstream),
        kinds,
        max_crashes=settings.job_max_crashes,
        instance=settings.instance,
        ack_wait=settings.ack_wait,
        facts=FactRecorder(
            dependencies.artifacts,
            dependencies.collections,
            dependencies.documents,
            revision=settings.revision,
            image=settings.image,
        ),
    )
    await bus.client.subscribe(cancel_subject("*"), cb=runner.hear_cancel)
    queue = JobQueue(
        bus,
        kinds,
        handle=runner.handle,
        give_back=runner.give_back,
        slots={
            Pool.SHORT: settings.job_room,
            Pool.LONG: settings.job_long_room,
            Pool.FLOW: settings.job_flow_room,
            Pool.SWEEP: settings.job_sweep_room,
        },
        ack_wait=settings.ack_wait,
        spare=settings.job_spare,
        weights=settings.weights,
    )
    ticker = Ticker(bus, dependencies.job_store)
    bus.after_reconnect(ticker.catch_up)
    await ticker.catch_up()
    handlers: dict[str, Callable[[Delivery], Awaitable[None]]] = {
        "retry": partial(forward_due_retry, bus.jetstream),
        "tick": ticker.tick,
    }
    return [queue, TimerWorker(bus, handlers, ack_wait=settings.ack_wait)]
