"""A scheduler's document jobs on a real broker and a real store, with an embedder that counts words."""

import hashlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stages.index import Index
from services.retriever.stages.retrieve import Retrieve
from services.retriever.stores.lance.store import LanceStore
from services.scheduler.canaries.canary import CanaryJob
from services.scheduler.clients.requests import Requests
from services.scheduler.collections.delete import DeleteJob
from services.scheduler.collections.index_check import PAUSE, IndexCheck
from services.scheduler.collections.permit import PermitJob
from services.scheduler.collections.reindex import ReindexJob
from services.scheduler.collections.switch import GATEWAY_MEMORY, SwitchJob
from services.scheduler.collections.sync import CollectionSync
from services.scheduler.datasets.dataset import DatasetJob
from services.scheduler.evaluation import EvaluateJob, GenerateQuestionsJob
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.ingest import IngestJob
from services.scheduler.ingestion.originals import Originals
from services.scheduler.ingestion.reader.reader import DocumentReader
from services.scheduler.jobs.kinds import JobFunction
from services.scheduler.releases.promote import PromoteJob
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tuning.tune import TuneJob
from services.scheduler.tuning.versions import TuneVersions
from shared.contracts.collections import Collection, Owner
from shared.contracts.envelope import Lane, Passage, Query, pack_vector
from shared.contracts.jobs import DocumentRef, IngestSpec, Job, JobSpec
from shared.contracts.retrieval import SearchMode
from shared.fairness import FairShare
from shared.nats.objects import owned_name
from shared.nats.subjects import UPLOADS, VECTORS
from shared.runtime.requester import Requester
from shared.runtime.stage import Context, Process
from shared.stores.canaries import CanaryStore
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.feedback import ReadersFeedback
from shared.stores.models import ModelStore
from shared.stores.releases import ReleaseStore
from tests.harness.job_harness import JobHarness, open_job_harness
from tests.harness.stage_harness import PATIENCE, open_stage_harness

BY_WORDS = RankOptions(mode=SearchMode.TEXT)

OWNER = Owner(tenant="default")

__all__ = ["OWNER", "CollectionHarness", "open_collection_harness", "vector_of"]

Look = Callable[[str, tuple[Passage, ...]], Any]


def vector_of(text: str, dimension: int) -> bytes:
    """Words hashed into a few dimensions, so that equal words make near texts."""
    counts = Counter(int(hashlib.md5(word.encode()).hexdigest(), 16) % dimension for word in text.lower().split())
    return pack_vector([float(counts[place]) + 0.01 for place in range(dimension)])


class CollectionHarness:
    """What the tests ask for: jobs, what they made of the records and the index, and what was embedded."""

    def __init__(self, job_harness: JobHarness, store: LanceStore, folder: Path) -> None:
        self.job_harness = job_harness
        self.store = store
        self.folder = folder
        self.collections = Collections(job_harness.bus.jetstream)
        self.documents = Documents(job_harness.bus.jetstream)
        self.originals = Originals(job_harness.bus.jetstream, self.documents)
        self.embedded: list[tuple[str, str]] = []
        """The variant that embedded a passage, and the passage's document, for each passage."""
        self.before_embedding: Look | None = None
        """Is awaited with the variant and the passages that come in."""
        self.searched: list[Query] = []
        """The queries that searches were made for."""
        self.before_search: Callable[[Query], Awaitable[object]] | None = None
        self.unknown_to_index: frozenset[str] = frozenset()
        """Members of a change of the index that the retriever does not know."""
        self.kinds: Mapping[str, JobFunction] = {}

    async def embed(self, variant: str, dimension: int, query: Query) -> Query:
        if query.question:
            return query.with_embedding(vector_of(query.question, dimension))
        if self.before_embedding is not None:
            await self.before_embedding(variant, query.passages)
        self.embedded += [(variant, passage.document) for passage in query.passages]
        return query.with_passages(
            passage.model_copy(update={"vector": vector_of(passage.text, dimension)}) for passage in query.passages
        )

    async def retrieve(self, retrieve: Retrieve, query: Query, context: Context) -> Query:
        if self.before_search is not None:
            await self.before_search(query)
        self.searched.append(query)
        return await retrieve(query, context)

    async def index(self, index: Index, query: Query, context: Context) -> Query:
        if self.unknown_to_index:
            known = {name: value for name, value in context.params.items() if name not in self.unknown_to_index}
            context = copy(context)
            context._query = query.model_copy(update={"slip": (query.stop.model_copy(update={"params": known}),)})
        return await index(query, context)

    async def submit(self, spec: JobSpec, **options: Any) -> str:
        """Put a job on the queue. Returns its id."""
        job = uuid.uuid4().hex
        await self.job_harness.submit(spec, job, **options)
        return job

    async def do(self, spec: JobSpec, *, patience: float = PATIENCE, **options: Any) -> Job:
        """Run a job to its end, with a worker of its own."""
        job = await self.submit(spec, **options)
        async with self.job_harness.working(self.kinds):
            return await self.job_harness.ended(job, patience=patience)

    async def upload(
        self, collection: str, texts: Mapping[str, str], *, allowed: tuple[str, ...] | None = None
    ) -> IngestSpec:
        """A job that ingests these texts, with a list of who may see them."""
        uploads = await self.job_harness.bus.jetstream.object_store(UPLOADS)
        refs = []
        for name, text in texts.items():
            data = text.encode()
            stored = owned_name("default", f"{name}-{len(self.embedded)}-{hashlib.sha256(data).hexdigest()[:8]}")
            await uploads.put(stored, data)
            digest = hashlib.sha256(data).hexdigest()
            refs.append(
                DocumentRef(
                    name=name, object=stored, sha256=digest, bytes=len(data), media_type="text/plain", allowed=allowed
                )
            )
        if allowed is None:
            return IngestSpec(collection=collection, documents=tuple(refs))
        return IngestSpec(collection=collection, restricted=tuple(refs))

    async def collection(self, name: str = "docs") -> Collection:
        return await self.collections.get("default", name)

    async def names(self, table: str) -> list[str]:
        """The documents that have a record in a table."""
        return [record.name for record in await self.documents.list(table, owner=OWNER)]

    async def texts(self, table: str) -> list[str]:
        """The chunks of a table that speak of a day or a document, by document and position."""
        hits = await self.store.search(table, "day document", None, top_k=200, options=BY_WORDS)
        return [hit.text for hit in sorted(hits, key=lambda hit: (hit.document, hit.position))]

    async def kept(self) -> int:
        """Messages that hold originals, or say where they are."""
        return (await self.job_harness.bus.jetstream.stream_info("OBJ_originals")).state.messages


@asynccontextmanager
async def open_collection_harness(
    url: str, folder: Path, *, embed: Process | None = None, check_pause: float = PAUSE, **settings: Any
) -> AsyncIterator[CollectionHarness]:
    """A library whose embedder has two variants, `default` and `wide`, of other dimensions; `embed` takes the place of
    the first. `check_pause` is in seconds: a short one is for collections that no job changes meanwhile."""
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(open_stage_harness(url))
        job_harness = await stack.enter_async_context(open_job_harness(url))
        reader = await stack.enter_async_context(DocumentReader(workers=1))
        store = await LanceStore.open(str(folder / "index"))
        stack.push_async_callback(store.close)
        collection_harness = CollectionHarness(job_harness, store, folder)
        chosen = SchedulerSettings(instance=instance_name(folder), reader_workers=1, **settings)
        collection_harness.kinds = await _kinds(collection_harness, reader, chosen, check_pause)
        vectors = await harness.jetstream.object_store(VECTORS)
        for variant, dimension in (("default", 16), ("wide", 24)):
            process = _embedder(collection_harness, variant, dimension)
            if embed is not None and variant == "default":
                process = embed
            await stack.enter_async_context(harness.working(process, "embed", variant=variant, room=16, batch_room=16))
        indexing = partial(collection_harness.index, Index(store, vectors, lambda _table, _passages: None))
        await stack.enter_async_context(
            harness.working(indexing, "index", lanes=(Lane.BATCH,), batch_room=1, exclusive=True)
        )
        retrieve = partial(collection_harness.retrieve, Retrieve(store))
        await stack.enter_async_context(harness.working(retrieve, "retrieve", room=16, batch_room=16))
        yield collection_harness


def instance_name(folder: Path) -> str:
    return f"library-{hashlib.md5(str(folder).encode()).hexdigest()[:8]}"


def _embedder(collection_harness: CollectionHarness, variant: str, dimension: int) -> Any:
    async def process(query: Query, _: Context) -> Query:
        return await collection_harness.embed(variant, dimension, query)

    return process


async def _kinds(
    collection_harness: CollectionHarness, reader: DocumentReader, settings: SchedulerSettings, check_pause: float
) -> dict[str, JobFunction]:
    bus = collection_harness.job_harness.bus
    stages = Requester(bus.client, bus.jetstream, bus.topology, name=settings.instance, seconds=30, tries=2)
    indexer = Indexer(
        stages=stages,
        collections=collection_harness.collections,
        documents=collection_harness.documents,
        vectors=await bus.jetstream.object_store(VECTORS),
        originals=collection_harness.originals,
        reader=reader,
        settings=settings,
    )
    sync = CollectionSync(
        indexer=indexer,
        collections=collection_harness.collections,
        documents=collection_harness.documents,
        originals=collection_harness.originals,
    )
    check = IndexCheck(stages, collection_harness.documents, pause=check_pause)
    switching = SwitchJob(
        jetstream=bus.jetstream,
        collections=collection_harness.collections,
        documents=collection_harness.documents,
        sync=sync,
        check=check,
        longest_query=0.1 - GATEWAY_MEMORY,  # no gateway, no query
        releases=ReleaseStore(bus.jetstream),
    )
    removal = DeleteJob(
        stages=stages,
        indexer=indexer,
        collections=collection_harness.collections,
        documents=collection_harness.documents,
        originals=collection_harness.originals,
    )
    reindexing = ReindexJob(
        models=ModelStore(bus.jetstream),
        job_store=collection_harness.job_harness.job_store,
        stages=stages,
        collections=collection_harness.collections,
        documents=collection_harness.documents,
        indexer=indexer,
        sync=sync,
        switching=switching,
        check=check,
    )
    return {
        "ingest": IngestJob(
            indexer=indexer,
            collections=collection_harness.collections,
            documents=collection_harness.documents,
            uploads=await bus.jetstream.object_store(UPLOADS),
            settings=settings,
        ),
        "delete": removal.delete,
        "permit": PermitJob(indexer=indexer, collections=collection_harness.collections),
        "drop": removal.drop,
        "switch": switching,
        "canary": CanaryJob(
            releases=ReleaseStore(bus.jetstream),
            collections=collection_harness.collections,
            counts=CanaryStore(bus.jetstream),
            switching=switching,
        ),
        "reindex": reindexing,
        "promote": PromoteJob(
            collections=collection_harness.collections,
            models=ModelStore(bus.jetstream),
            releases=ReleaseStore(bus.jetstream),
            switching=switching,
        ),
        "evaluate": EvaluateJob(
            stages=stages,
            requests=Requests(stages, collection_harness.job_harness.artifacts, room=FairShare(4), seconds=30),
            collections=collection_harness.collections,
            artifacts=collection_harness.job_harness.artifacts,
            indexer=indexer,
        ),
        "generate_questions": GenerateQuestionsJob(
            requests=Requests(stages, collection_harness.job_harness.artifacts, room=FairShare(4), seconds=30),
            collections=collection_harness.collections,
            documents=collection_harness.documents,
            artifacts=collection_harness.job_harness.artifacts,
            indexer=indexer,
        ),
        "dataset": DatasetJob(
            stages=stages,
            collections=collection_harness.collections,
            artifacts=collection_harness.job_harness.artifacts,
            indexer=indexer,
            feedback=ReadersFeedback(bus.jetstream),
        ),
        "tune": TuneJob(
            stages=stages,
            collections=collection_harness.collections,
            artifacts=collection_harness.job_harness.artifacts,
            indexer=indexer,
            versions=TuneVersions(
                collections=collection_harness.collections,
                documents=collection_harness.documents,
                indexer=indexer,
                reindexing=reindexing,
                switching=switching,
            ),
        ),
    }
