"""The gateway's own side of the broker: what its endpoints work with once the connection is there."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, Self

from fastapi import Depends, Request
from starlette.types import Scope

from services.gateway.admin.discovery import discover_services
from services.gateway.auth.authenticator import Authenticator
from services.gateway.auth.principal import ANONYMOUS, Principal
from services.gateway.http.object_writer import ObjectStage
from services.gateway.jobs.notifier import JobNotifier
from services.gateway.keys.store import Keys, watch_keys
from services.gateway.openai.batches.service import Batches
from services.gateway.openai.models.model_registry import ModelDirectory
from services.gateway.queries.batch_throttle import BatchThrottle
from services.gateway.queries.pipelines import Pipelines
from services.gateway.queries.session import Queries
from services.gateway.settings import GatewaySettings
from services.gateway.variants.routes import Routes, watch_routes
from services.gateway.variants.selector import Router
from services.gateway.variants.shadows import Shadows
from shared.contracts.collections import Collection
from shared.contracts.envelope import Lane
from shared.contracts.events import Done, encode_event
from shared.contracts.problems import Problem, ProblemType
from shared.nats.bus import Bus
from shared.nats.subjects import ARTIFACTS, reply_subject
from shared.runtime.dead_letters import DeadLetters
from shared.runtime.replies import ReplyRouter
from shared.runtime.stage import Stage
from shared.service.service import Service
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.files import Files
from shared.stores.jobs.store import JobStore

__all__ = [
    "REQUEST_CONTEXT",
    "Backend",
    "BackendParameter",
    "PrincipalParameter",
    "RequestContext",
    "ContextParameter",
    "Terms",
    "principal_of",
    "charge_tokens",
    "context_of",
]

REQUEST_CONTEXT: Final = "sluice.desk"
"""Member of an ASGI scope: the desk at which the request is served, on its own terms."""

RECONNECT_PATIENCE: Final = 1.0
CANARY_TIMEOUT: Final = 10.0
CACHED_SECONDS: Final = 1.0
CACHED_COLLECTIONS: Final = 1000


class CollectionCache:
    """Collections by name, at most a second old, so that a query costs no look-up under load."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._known: OrderedDict[tuple[str, str], tuple[float, Collection]] = OrderedDict()

    async def get(self, tenant: str, name: str, version: str | None = None) -> Collection:
        """A collection; with a version, as if that were the live one. What is not there is never remembered.

        Raises Problem COLLECTION_NOT_FOUND, NOT_FOUND or VERSION_NOT_READY.
        """
        if version is None:
            return await self._get(tenant, name)
        try:
            return (await self._get(tenant, name)).as_if(version)
        except Problem:  # unless it has just been made
            self.forget(tenant, name)
            return (await self._get(tenant, name)).as_if(version)

    async def _get(self, tenant: str, name: str) -> Collection:
        known = self._known.get((tenant, name))
        now = time.monotonic()
        if known and now - known[0] < CACHED_SECONDS:
            return known[1]
        record = await self._collections.get(tenant, name)
        self._known[tenant, name] = now, record
        if len(self._known) > CACHED_COLLECTIONS:
            self._known.popitem(last=False)
        return record

    def forget(self, tenant: str, name: str) -> None:
        self._known.pop((tenant, name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Everything that an endpoint needs from the broker."""

    bus: Bus
    queries: Queries
    collections: Collections
    cache: CollectionCache
    documents: Documents
    jobs: JobStore
    objects: ObjectStage
    artifacts: Artifacts
    artifact_objects: ObjectStage
    files: Files
    batches: Batches
    dead_letters: DeadLetters
    routes: Routes
    keys: Keys
    models: ModelDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a request is served. A `deadline` (Unix seconds) goes before whatever timeout it names."""

    lane: Lane = Lane.INTERACTIVE
    principal: Principal = ANONYMOUS
    deadline: float | None = None

    @property
    def tenant(self) -> str:
        return self.principal.tenant


class RequestContext:
    """What the endpoints share. The backend comes with the broker, and is waited for a moment only."""

    terms = Terms()

    def __init__(self, settings: GatewaySettings, pipelines: Pipelines) -> None:
        self.settings = settings
        self.pipelines = pipelines
        self.notifier = JobNotifier()
        self.router = Router()
        self.throttle = BatchThrottle(yields=settings.batch_yields)
        self.authenticator = Authenticator(settings)
        self._opened: list[Backend] = []
        """One backend, once it is open; all desks share it."""

    def under(self, terms: Terms) -> Self:
        """The same desk for requests on other terms."""
        context = object.__new__(type(self))
        context.__dict__.update(self.__dict__)
        context.terms = terms
        return context

    @asynccontextmanager
    async def setup(self, stages: Sequence[Stage], service: Service) -> AsyncIterator[Sequence[Stage]]:
        """Open the backend, prove that replies arrive, and on the way down let queries in flight finish.

        `stages` are those that the gateway itself works on.
        """
        bus, instance = service.bus, self.settings.instance
        replies = ReplyRouter(bus.client, instance)
        shadows = Shadows(bus, instance, replies, self.router, self.settings.max_shadows)
        queries = Queries(bus, instance, replies, shadows.beside, self.throttle)
        collections = Collections(bus.jetstream)
        backend = Backend(
            bus=bus,
            queries=queries,
            collections=collections,
            cache=CollectionCache(collections),
            documents=Documents(bus.jetstream),
            jobs=JobStore(bus.client, bus.jetstream),
            objects=ObjectStage(bus.jetstream),
            artifacts=Artifacts(bus.jetstream),
            artifact_objects=ObjectStage(bus.jetstream, ARTIFACTS),
            files=Files(bus.jetstream),
            batches=Batches(bus.jetstream),
            dead_letters=DeadLetters(bus.client, bus.jetstream),
            routes=Routes(bus.jetstream),
            keys=Keys(bus.jetstream),
            models=ModelDirectory(partial(discover_services, bus.client, longest=1.0, quiet=0.25)),
        )
        await replies.open()
        await queries.open()
        await _canary(bus, instance, replies)
        bus.after_reconnect(queries.look_up)
        routes = watch_routes(bus.client, bus.jetstream, self.router.update)
        keys = watch_keys(bus.client, bus.jetstream, self.authenticator.update)
        async with routes, keys, shadows.running(), backend.models.running():
            self._opened.append(backend)
            try:
                yield stages
            finally:
                self.notifier.close()
                shadows.stop()
                # A little less than the whole grace period, so that the last problems reach their clients.
                await queries.close(self.settings.grace_seconds * 0.9)

    async def backend(self) -> Backend:
        """Raises Problem BROKER_UNAVAILABLE when the broker is still away after a second."""
        give_up = time.monotonic() + RECONNECT_PATIENCE
        while not self._opened or not self._opened[0].bus.connected:
            if time.monotonic() > give_up:
                raise Problem(
                    ProblemType.BROKER_UNAVAILABLE,
                    f"There is no connection to the message broker at {self.settings.nats_url.rpartition('@')[2]}.",
                    headers={"Retry-After": "1"},
                )
            await asyncio.sleep(0.05)
        return self._opened[0]


async def _canary(bus: Bus, instance: str, replies: ReplyRouter) -> None:
    with replies.mailbox("canary") as mailbox:
        await bus.client.publish(reply_subject(instance, "canary"), encode_event(Done(deltas=0)))
        await mailbox.receive(CANARY_TIMEOUT)


def context_of(request: Request) -> RequestContext:
    """The desk at which a request is served. Every endpoint is guarded, so there is one."""
    context: RequestContext = request.scope[REQUEST_CONTEXT]
    return context


def principal_of(request: Request) -> Principal:
    """Whose request it is."""
    return context_of(request).terms.principal


def charge_tokens(scope: Scope, tokens: int) -> None:
    """Count the tokens of an answer against the limit of the key that asked."""
    context: RequestContext = scope[REQUEST_CONTEXT]
    context.terms.principal.spend(tokens)


async def _backend(request: Request) -> Backend:
    return await context_of(request).backend()


ContextParameter = Annotated[RequestContext, Depends(context_of)]
PrincipalParameter = Annotated[Principal, Depends(principal_of)]
BackendParameter = Annotated[Backend, Depends(_backend)]
