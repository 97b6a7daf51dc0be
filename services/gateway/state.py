"""What lives as long as the process: settings, and the capabilities that need the broker."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from fastapi import Request

from services.gateway.admin.discovery import discover_services
from services.gateway.answers.recorder import AnswerRecorder
from services.gateway.answers.store import AnswerStore
from services.gateway.auth.authenticator import Authenticator
from services.gateway.canaries.recorder import CanaryRecorder
from services.gateway.canaries.shadows import VersionShadows
from services.gateway.collections.cache import CollectionCache
from services.gateway.conversations.store import Conversations
from services.gateway.feedback.store import FeedbackStore
from services.gateway.http.object_writer import ObjectStage
from services.gateway.jobs.notifier import JobNotifier
from services.gateway.keys.store import Keys, watch_keys
from services.gateway.openai.batches.service import Batches
from services.gateway.openai.models.model_registry import ModelRegistry
from services.gateway.payloads.recorder import PayloadRecorder
from services.gateway.quality.recorder import record_quality
from services.gateway.queries.batch_throttle import BatchThrottle
from services.gateway.queries.lost_queries import look_after
from services.gateway.queries.pipelines import Pipelines
from services.gateway.queries.planner import QueryPlanner
from services.gateway.queries.session import Queries, QuerySession
from services.gateway.queries.window import QueryWindow
from services.gateway.releases.archives.signatures import ReleaseKeys
from services.gateway.settings import GatewaySettings
from services.gateway.usage.recorder import UsageRecorder, write_regularly
from services.gateway.usage.store import UsageStore
from services.gateway.variants.selector import Router
from services.gateway.variants.shadows import Shadows
from shared.contracts.events import Done, encode_event
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import ARTIFACTS, reply_subject
from shared.runtime.replies import ReplyRouter
from shared.runtime.stage import Stage
from shared.service.bus import Bus
from shared.service.service import Service
from shared.service.storage import StorageWatch
from shared.stores.artifacts import Artifacts
from shared.stores.canaries import CanaryStore
from shared.stores.collection_index import CollectionIndex
from shared.stores.collections import Collections
from shared.stores.dead_letters import DeadLetters
from shared.stores.document_index import DocumentIndex
from shared.stores.documents import Documents
from shared.stores.files import Files
from shared.stores.jobs.store import JobStore
from shared.stores.models import ModelStore
from shared.stores.payload_log import PayloadLog
from shared.stores.releases import ReleaseStore
from shared.stores.routes import Routes, watch_routes
from shared.stores.tensors import TensorStore
from shared.tasks import background

__all__ = ["Backend", "GatewayState", "state_of"]

START_TIMEOUT: Final = 1.0
"""Seconds that a request waits for the first connection to the broker."""

RECONNECT_TIMEOUT: Final = 5.0
"""Seconds that a request which is no query waits for the broker while it is away."""

MODEL_TRANSFERS: Final = 2
"""Models that are uploaded at once, and that are downloaded."""

LOOK: Final = 0.05
CANARY_TIMEOUT: Final = 10.0

LAST_WRITE: Final = 2.0
"""Seconds that the end of the process waits for the broker to take what is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Every capability that needs the broker."""

    bus: Bus
    queries: Queries
    collections: Collections
    collection_index: CollectionIndex
    cache: CollectionCache
    documents: Documents
    document_index: DocumentIndex
    jobs: JobStore
    objects: ObjectStage
    artifacts: Artifacts
    artifact_objects: ObjectStage
    files: Files
    batches: Batches
    dead_letters: DeadLetters
    routes: Routes
    keys: Keys
    conversations: Conversations
    usage: UsageStore
    answers: AnswerStore
    feedback: FeedbackStore
    payloads: PayloadLog
    models: ModelRegistry
    tensors: TensorStore
    model_store: ModelStore
    releases: ReleaseStore


class GatewayState:
    """What all requests share. The backend comes with the broker's connection."""

    def __init__(self, settings: GatewaySettings, pipelines: Pipelines) -> None:
        self.settings = settings
        self.pipelines = pipelines
        self.notifier = JobNotifier()
        self.selector = Router()
        self.throttle = BatchThrottle(yields=settings.batch_yields)
        self.usage = UsageRecorder()
        self.answers = AnswerRecorder(settings)
        self.payloads = PayloadRecorder(settings)
        self.canaries = CanaryRecorder()
        self.version_shadows = VersionShadows(self.canaries, settings.instance, self.throttle, settings.max_shadows)
        self.authenticator = Authenticator(settings)
        self.planner = QueryPlanner(settings, pipelines, self.selector, self.version_shadows.plan)
        # Each model on its way takes its size on the disk meanwhile.
        self.model_uploads = asyncio.Semaphore(MODEL_TRANSFERS)
        self.model_downloads = asyncio.Semaphore(MODEL_TRANSFERS)
        self.release_keys = None if settings.release_keys is None else ReleaseKeys(settings.release_keys)
        self.storage: StorageWatch | None = None
        self._backend: Backend | None = None

    def _ended(self, session: QuerySession, problem: Problem | None) -> None:
        """Count a question that has ended."""
        self.canaries.ended(session, problem)
        record_quality(session, problem)

    @asynccontextmanager
    async def setup(self, stages: Sequence[Stage], service: Service) -> AsyncIterator[Sequence[Stage]]:
        """Open the backend, prove that replies arrive, and on the way down let queries in flight finish.

        `stages` are those that the gateway itself works on.
        """
        bus, instance = service.bus, self.settings.instance
        replies = ReplyRouter(bus.client, instance)
        most = self.settings.max_shadows
        shadows = Shadows(bus, instance, replies, self.selector, self.throttle, most, self.answers.keep)
        documents = Documents(bus.jetstream)
        window = QueryWindow(self.settings)
        service.window = lambda: window.status

        @contextmanager
        def shadowed(session: QuerySession) -> Iterator[None]:
            with shadows.shadow(session), self.version_shadows.shadow(session):
                yield

        queries = Queries(bus, instance, replies, shadowed, self.throttle, window, documents, self._ended)
        collections, collection_index = Collections(bus.jetstream), CollectionIndex(bus.jetstream)
        backend = Backend(
            bus=bus,
            queries=queries,
            collections=collections,
            collection_index=collection_index,
            cache=CollectionCache(collections, collection_index),
            documents=documents,
            document_index=DocumentIndex(bus.jetstream),
            jobs=JobStore(bus.client, bus.jetstream),
            objects=ObjectStage(bus.jetstream),
            artifacts=Artifacts(bus.jetstream),
            artifact_objects=ObjectStage(bus.jetstream, ARTIFACTS),
            files=Files(bus.jetstream),
            batches=Batches(bus.jetstream),
            dead_letters=DeadLetters(bus.client, bus.jetstream),
            routes=Routes(bus.jetstream),
            keys=Keys(bus.jetstream),
            conversations=Conversations(bus.jetstream),
            usage=UsageStore(bus.jetstream),
            answers=AnswerStore(bus.jetstream),
            feedback=FeedbackStore(bus.jetstream),
            payloads=PayloadLog(bus.jetstream),
            model_store=ModelStore(bus.jetstream),
            releases=ReleaseStore(bus.jetstream),
            models=ModelRegistry(partial(discover_services, bus.client, longest=1.0, quiet=0.25)),
            tensors=TensorStore(bus.jetstream),
        )
        await replies.open()
        await queries.open()
        await _canary(bus, instance, replies)
        bus.after_reconnect(queries.resubmit)
        routes = watch_routes(bus.client, bus.jetstream, self.selector.update)
        keys = watch_keys(bus.client, bus.jetstream, self.authenticator.update)
        patience = self.settings.broker_patience
        looked_after = background(look_after(bus, lambda: queries.in_flight, patience, self._unavailable))
        recorded = background(write_regularly(self.usage, backend.usage, bus))
        kept, logged = self.answers.running(backend.answers), self.payloads.running(backend.payloads)
        counted = background(self.canaries.write_regularly(CanaryStore(bus.jetstream), bus))
        recorders = (looked_after, recorded, kept, logged, counted)
        copies = self.version_shadows.running(bus, replies)
        async with routes, keys, shadows.running(), copies, backend.models.running(), AsyncExitStack() as stack:
            for recorder in recorders:
                await stack.enter_async_context(recorder)
            self._backend = backend
            try:
                yield stages
            finally:
                self.notifier.close()
                shadows.stop()
                # A little less than the whole grace period, so that the last problems reach their clients.
                await queries.close(self.settings.grace_seconds * 0.9)

    async def backend(self, *, hold: bool = True) -> Backend:
        """Without `hold` the broker may be away for a while: what is asked of it then has to be asked again.

        Raises Problem BROKER_UNAVAILABLE when the broker has been away for longer than a gateway has patience, is still
        away after some seconds of `hold`, or was never there.
        """
        now = time.monotonic()
        while self._backend is None:
            if time.monotonic() > now + START_TIMEOUT:
                raise self._unavailable()
            await asyncio.sleep(LOOK)
        bus = self._backend.bus
        while bus.away > self.settings.broker_patience or (hold and not bus.connected):
            if time.monotonic() > now + RECONNECT_TIMEOUT or bus.away > self.settings.broker_patience:
                raise self._unavailable()
            await asyncio.sleep(LOOK)
        return self._backend

    async def write_counts(self) -> None:
        """Write what is counted and not written yet. Called once no request is in work any more."""
        if self._backend is not None:
            with anyio.move_on_after(LAST_WRITE):
                await self.usage.write(self._backend.usage)
                await self.canaries.write(CanaryStore(self._backend.bus.jetstream))

    def _unavailable(self) -> Problem:
        return Problem(
            ProblemType.BROKER_UNAVAILABLE,
            f"There is no connection to the message broker at {self.settings.nats_url.rpartition('@')[2]}.",
            headers={"Retry-After": "1"},
        )


async def _canary(bus: Bus, instance: str, replies: ReplyRouter) -> None:
    with replies.mailbox("canary") as mailbox:
        await bus.client.publish(reply_subject(instance, "canary"), encode_event(Done(deltas=0)))
        await mailbox.receive(CANARY_TIMEOUT)


def state_of(request: Request) -> GatewayState:
    """The state of the gateway that serves a request."""
    state: GatewayState = request.app.state.gateway
    return state
