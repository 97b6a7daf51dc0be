"""The frame of every service: its process, its HTTP side and its life from start to clean exit.

starting   /livez answers, /readyz says why not yet: connecting, making sure of the topology, loading models
ready      a canary has passed through every stage, and work is pulled
draining   on SIGTERM or SIGINT: not ready, no more pulling, work in flight finishes within the grace period
ended      what was left is given back, everything is flushed, the exit code is 0
"""

import asyncio
import gc
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Protocol

from faststream import AckPolicy
from faststream.asgi import AsgiFastStream, AsgiResponse
from faststream.specification import AsyncAPI
from pydantic import BaseModel, ConfigDict

from shared.contracts.envelope import Query
from shared.contracts.events import AnyEvent, Cancel
from shared.contracts.problems import JSON as PROBLEM_JSON
from shared.contracts.problems import ProblemDetails
from shared.runtime.stage import Stage
from shared.runtime.worker import StageStatus, StageWorker
from shared.service.bus import Bus
from shared.service.settings import ServiceSettings
from shared.service.storage import Storage, StorageWatch
from shared.tasks import background
from shared.telemetry.metrics import MetricsPage
from shared.telemetry.trace_events import KEEP, TRACE, TraceReport, TraceRequest, announcing, keep, report
from shared.telemetry.tracing import trace_memory
from shared.version import VERSION

__all__ = ["PING", "ASGIApp", "Service", "ServiceStatus", "Setup", "StageStatus", "WindowStatus", "Worker"]

log = logging.getLogger(__name__)

WAITING = "starting: waiting for the broker"

PING = "control.ping"
"""Every service answers this subject with its `ServiceStatus`."""


class Worker(Protocol):
    """Something that takes work from the broker: a stage's worker, the scheduler's job worker."""

    @property
    def pulling(self) -> bool:
        """Whether it takes work now."""

    @property
    def statuses(self) -> list["StageStatus"]:
        """The stages it works on."""

    async def run(self) -> None:
        """Work until cancelled."""

    async def probe(self) -> None:
        """Send a canary through; raise if it does not come back."""

    async def reset(self) -> None:
        """Take up work again after a reconnection."""

    async def drain(self, grace: float) -> None:
        """Take no more work, finish what is in flight within `grace` seconds, give the rest back."""


Setup = Callable[["Service"], AbstractAsyncContextManager[Sequence["Stage | Worker"]]]
"""Brings a service's parts up and yields its stages; on leaving, takes the parts down."""


class WindowStatus(BaseModel):
    """The queries of a gateway by lane: those in flight, of about `room` in each lane, and those that wait for their
    tenant's turn."""

    model_config = ConfigDict(frozen=True)

    in_flight: dict[str, int]
    waiting: dict[str, int]
    room: int


class ServiceStatus(BaseModel):
    """One process, as it answers a ping; a gateway with its `window`."""

    model_config = ConfigDict(frozen=True)

    service: str
    instance: str
    version: str
    ready: bool
    started_at: float
    stages: list[StageStatus]
    window: WindowStatus | None = None


class ASGIApp(Protocol):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Service:
    """One service process. `setup` runs once the broker is there; what it yields is worked on until the drain.

    It stays ready for `patience` seconds without the broker.
    """

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        setup: Setup,
        *,
        storage: Storage | None = None,
        patience: float = 0.0,
    ) -> None:
        self.name = name
        self.settings = settings
        self.bus = Bus(name, settings)
        self.storage = StorageWatch(self.bus, settings.instance) if storage is not None else None
        self._needs_storage = storage is Storage.NEEDED
        self._patience = patience
        self.failed = False
        self.draining = asyncio.Event()
        self.before_scrape: list[Callable[[], Awaitable[None]]] = []
        self.window: Callable[[], WindowStatus] | None = None
        # What keeps a started service from being ready, besides the broker; empty where nothing does.
        self.obstacle: Callable[[], str] = str
        self._setup = setup
        self._state = WAITING
        self._started_at = time.time()
        self._workers: list[Worker] = []
        self._by_stage: list[StageWorker] = []
        self._stop = asyncio.Event()
        self._started = False
        self._listen()

    @property
    def ready(self) -> bool:
        if self._state != "ready":
            return False
        if self._patience:
            # What it serves over HTTP waits for the broker, and needs no work that is pulled.
            return self.bus.away <= self._patience
        works = self.bus.connected and all(w.pulling for w in self._workers)
        return works and not self.obstacle() and not (self._needs_storage and self._storage_full)

    @property
    def _storage_full(self) -> str:
        return self.storage.full if self.storage is not None else ""

    @property
    def status(self) -> ServiceStatus:
        return ServiceStatus(
            service=self.name,
            instance=self.settings.instance,
            version=VERSION,
            ready=self.ready,
            started_at=self._started_at,
            stages=[status for worker in self._workers for status in worker.statuses],
            window=self.window() if self.window is not None else None,
        )

    def pages(self) -> dict[str, ASGIApp]:
        """The HTTP pages that every service has, by path."""
        return {
            "/livez": _Page(self._livez),
            "/readyz": _Page(self._readyz),
            "/metrics": MetricsPage(self.before_scrape),
        }

    def asgi(self) -> AsgiFastStream:
        """The service as an ASGI app without any HTTP API of its own."""
        return AsgiFastStream(
            self.bus.broker,
            asgi_routes=list(self.pages().items()),
            logger=logging.getLogger("faststream"),
            lifespan=self.lifespan,
            after_startup=[self.bus.started],
            specification=AsyncAPI(title=f"Sluice {self.name}", version=VERSION),
            asyncapi_path="/asyncapi",
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run the service beside the HTTP server. The broker is to be started inside."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run())
            try:
                yield
            except Exception:
                self._fail()
                raise
            finally:
                self._stop.set()

    def starting(self, step: str) -> None:
        """Say on /readyz what the start is at. To be called from `setup`."""
        self._state = f"starting: {step}"

    async def drain(self) -> None:
        """Take no more work and finish what is in flight. Called once, before the HTTP server stops."""
        self._state = "draining"
        self.draining.set()
        # Load balancers ask /readyz only now and then, and send requests until they have.
        lingering = asyncio.sleep(self.settings.linger_seconds)
        drains = (worker.drain(self.settings.grace_seconds) for worker in self._workers)
        for result in await asyncio.gather(lingering, *drains, return_exceptions=True):
            if isinstance(result, BaseException):
                log.error("could not drain", exc_info=result)
        self._stop.set()

    @property
    def broken_off(self) -> bool:
        """Whether the service was stopped before it had taken any work."""
        return self._stop.is_set() and not self._started

    async def _run(self) -> None:
        """Live until stopped. What goes wrong before that ends the process."""
        living = asyncio.create_task(self._live())
        waiting = asyncio.create_task(self._stop.wait()), asyncio.create_task(self.bus.lost())
        ends: list[asyncio.Task[Any]] = [living, *waiting]
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                if self.broken_off:
                    living.cancel()
                await asyncio.wait([living])
                done = {living}
            for task in done:
                if not task.cancelled():
                    task.result()
        except Exception:  # noqa: BLE001  (it is logged)
            self._fail()
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def _fail(self) -> None:
        log.critical("the service cannot go on", exc_info=True)
        self.failed = True
        self._state = "failed"
        signal.raise_signal(signal.SIGTERM)

    async def _live(self) -> None:
        await self.bus.open()
        self._state = "starting: loading"
        async with announcing(trace_memory(), self.bus.client), self._setup(self) as stages:
            self._workers = [self._worker(stage) for stage in stages]
            self._by_stage = [worker for worker in self._workers if isinstance(worker, StageWorker)]
            self._state = "starting: sending a canary through each stage"
            for worker in self._workers:
                await worker.probe()
            self._started = True
            if self.draining.is_set():
                return
            # What is loaded stays: walking the 400,000 objects of a model's libraries stops the process for 0.3 s.
            gc.freeze()
            self._state = "ready"
            log.info("ready", extra={"seconds": round(time.time() - self._started_at, 2)})
            async with background(self.storage.run()) if self.storage is not None else nullcontext():
                await self._work()

    async def _work(self) -> None:
        """Let every worker work until the service is stopped. Raises what ends one of them before."""
        running = [asyncio.create_task(worker.run()) for worker in self._workers]
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(self._stop.wait()), *running]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                for task in running:
                    if task.done():
                        task.result()
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def _worker(self, stage: Stage | Worker) -> Worker:
        worker: Worker = (
            stage
            if not isinstance(stage, Stage)
            else StageWorker(
                stage,
                client=self.bus.client,
                jetstream=self.bus.jetstream,
                topology=self.bus.topology,
                settings=self.settings,
                instance=self.settings.instance,
            )
        )
        self.bus.after_reconnect(worker.reset)
        return worker

    def _listen(self) -> None:
        """Subscribe to the control events, and describe on the AsyncAPI page what is published."""
        broker = self.bus.broker

        @broker.subscriber("control.cancel.*", ack_policy=AckPolicy.MANUAL, title="control.cancel", no_reply=True)
        async def cancel(message: Cancel) -> None:
            for worker in self._by_stage:
                worker.cancel(message.query, message.at)

        @broker.subscriber(PING, ack_policy=AckPolicy.MANUAL, title=PING)
        async def ping() -> ServiceStatus:
            return self.status

        @broker.subscriber(TRACE, ack_policy=AckPolicy.MANUAL, title=TRACE)
        async def trace(request: TraceRequest) -> TraceReport:
            return report(trace_memory(), request, service=self.name, instance=self.settings.instance)

        @broker.subscriber(KEEP, ack_policy=AckPolicy.MANUAL, title=KEEP, no_reply=True)
        async def keep_trace(request: TraceRequest) -> None:
            keep(trace_memory(), request)

        broker.publisher(
            "query", title="query.<stage>.<variant>.<lane>.<tenant>", description="To the next stop.", schema=Query
        )
        broker.publisher("reply", title="reply.<asker>.<query>", description="To the reader.", schema=AnyEvent)

    def _livez(self) -> AsgiResponse:
        return _json({"status": "alive"})

    def _readyz(self) -> AsgiResponse:
        if self.ready:
            full = {"storage": self._storage_full} if self._storage_full else {}
            return _json({"status": "ready", "service": self.name, "instance": self.settings.instance, **full})
        state = self._state if self._state != "ready" else "the broker is away, or work is not pulled"
        if self._state == "ready" and (obstacle := self.obstacle()):
            state = obstacle
        if self._storage_full:
            state = f"the broker cannot store anything: {self._storage_full}"
        elif self._state == WAITING and self.bus.waits_for:
            state = f"{WAITING}: {self.bus.waits_for}"
        problem = ProblemDetails(
            type="urn:sluice:problem:not-ready", title="The service is not ready", status=503, detail=state
        )
        return AsgiResponse(problem.model_dump_json().encode(), 503, {"content-type": PROBLEM_JSON})


class _Page:
    """An ASGI app that answers every request with one response."""

    def __init__(self, respond: Callable[[], AsgiResponse]) -> None:
        self._respond = respond

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._respond()(scope, receive, send)


def _json(body: dict[str, str]) -> AsgiResponse:
    return AsgiResponse(json.dumps(body).encode(), 200, {"content-type": "application/json"})
