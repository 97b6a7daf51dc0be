"""The frame of every service: its process, its HTTP side and its life from start to clean exit.

starting   /livez answers, /readyz says why not yet: connecting, making sure of the topology, loading models
ready      a canary has passed through every stage, and work is pulled
draining   on SIGTERM or SIGINT: not ready, no more pulling, work in flight finishes within the grace period
ended      what was left is given back, everything is flushed, the exit code is 0
"""

import asyncio
import contextlib
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol

from faststream import AckPolicy
from faststream.asgi import AsgiFastStream, AsgiResponse
from faststream.specification import AsyncAPI
from prometheus_client import generate_latest
from pydantic import BaseModel, ConfigDict

from shared.bus import Bus
from shared.envelope import Query
from shared.problems import JSON as PROBLEM_JSON
from shared.problems import ProblemDetails
from shared.reply import AnyEvent, Cancel
from shared.settings import ServiceSettings
from shared.stage import Stage
from shared.worker import StageStatus, StageWorker

__all__ = ["PING", "ASGIApp", "Service", "ServiceStatus", "Setup", "StageStatus", "Worker"]

log = logging.getLogger(__name__)

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


class ServiceStatus(BaseModel):
    """One process, as it answers a ping."""

    model_config = ConfigDict(frozen=True)

    service: str
    instance: str
    version: str
    ready: bool
    started_at: float
    stages: list[StageStatus]


class ASGIApp(Protocol):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Service:
    """One service process. `setup` runs once the broker is there; what it yields is worked on until the drain."""

    def __init__(self, name: str, settings: ServiceSettings, setup: Setup) -> None:
        self.name = name
        self.settings = settings
        self.bus = Bus(name, settings)
        self.failed = False
        self.draining = asyncio.Event()
        self._setup = setup
        self._state = "starting: waiting for the broker"
        self._started_at = time.time()
        self._workers: list[Worker] = []
        self._by_stage: list[StageWorker] = []
        self._stop = asyncio.Event()
        self._listen()

    @property
    def ready(self) -> bool:
        return self._state == "ready" and self.bus.connected and all(w.pulling for w in self._workers)

    @property
    def status(self) -> ServiceStatus:
        return ServiceStatus(
            service=self.name,
            instance=self.settings.instance,
            version=version("sluice"),
            ready=self.ready,
            started_at=self._started_at,
            stages=[status for worker in self._workers for status in worker.statuses],
        )

    def pages(self) -> dict[str, ASGIApp]:
        """The HTTP pages that every service has, by path."""
        return {"/livez": _Page(self._livez), "/readyz": _Page(self._readyz), "/metrics": _Page(_metrics)}

    def asgi(self) -> AsgiFastStream:
        """The service as an ASGI app without any HTTP API of its own."""
        return AsgiFastStream(
            self.bus.broker,
            asgi_routes=list(self.pages().items()),
            logger=logging.getLogger("faststream"),
            lifespan=self.lifespan,
            after_startup=[self.bus.started],
            specification=AsyncAPI(title=f"Sluice {self.name}", version=version("sluice")),
            asyncapi_path="/asyncapi",
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run the service beside the HTTP server. The broker is to be started inside."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run())
            try:
                yield
            finally:
                self._stop.set()

    async def drain(self) -> None:
        """Take no more work and finish what is in flight. Called once, before the HTTP server stops."""
        self._state = "draining"
        self.draining.set()
        # Load balancers ask /readyz only now and then, and send requests until they have.
        await asyncio.sleep(self.settings.linger_seconds)
        await asyncio.gather(*(worker.drain(self.settings.grace_seconds) for worker in self._workers))
        self._stop.set()

    async def _run(self) -> None:
        try:
            await self._live()
        except Exception:
            log.critical("the service cannot go on", exc_info=True)
            self.failed = True
            self._state = "failed"
            signal.raise_signal(signal.SIGTERM)

    async def _live(self) -> None:
        if not await self._unless_stopped(self.bus.open()):
            return
        self._state = "starting: loading"
        async with self._setup(self) as stages:
            self._workers = [self._worker(stage) for stage in stages]
            self._by_stage = [worker for worker in self._workers if isinstance(worker, StageWorker)]
            running = [asyncio.create_task(worker.run()) for worker in self._workers]
            try:
                self._state = "starting: sending a canary through each stage"
                await self._unless_stopped(self._probe())
                self._state = "ready" if not self.draining.is_set() else "draining"
                log.info("ready", extra={"seconds": round(time.time() - self._started_at, 2)})
                stop = asyncio.create_task(self._stop.wait())
                done, _ = await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                for task in done - {stop}:
                    task.result()
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    async def _unless_stopped(self, work: Any) -> bool:
        """Wait for work unless the service is stopped meanwhile; tells whether it was done."""
        working = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([working, stop], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return True
            return False
        finally:
            stop.cancel()
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await working

    async def _probe(self) -> None:
        for worker in self._workers:
            await worker.probe()

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

        broker.publisher(
            "query", title="query.<stage>.<variant>.<lane>.<tenant>", description="To the next stop.", schema=Query
        )
        broker.publisher("reply", title="reply.<asker>.<query>", description="To the reader.", schema=AnyEvent)

    def _livez(self) -> AsgiResponse:
        return _json({"status": "alive"})

    def _readyz(self) -> AsgiResponse:
        if self.ready:
            return _json({"status": "ready", "service": self.name, "instance": self.settings.instance})
        state = self._state if self._state != "ready" else "the broker is away, or work is not pulled"
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


def _metrics() -> AsgiResponse:
    return AsgiResponse(generate_latest(), 200, {"content-type": "text/plain; version=0.0.4; charset=utf-8"})
