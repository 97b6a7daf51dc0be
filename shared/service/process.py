"""A service as a process: its command line, its listening socket, its signals and its exit code."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
import uvicorn
import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

from shared.runtime.stage import Process, Stage
from shared.service.http_protocol import http_protocol
from shared.service.service import ASGIApp, Service
from shared.service.settings import ServiceSettings, describe
from shared.telemetry.tracing import flush_telemetry, set_up_telemetry

__all__ = ["main", "run_stage", "serve"]

log = logging.getLogger(__name__)


QUIET_SECONDS: Final = 1.0
"""Seconds in which open connections may still bring a request after the server has stopped to accept new ones."""

KEEP_ALIVE_SECONDS: Final = 75
"""Seconds for which a connection without a request stays open: longer than proxies keep theirs, mostly 60 s. Whoever
gives up a connection first must not be the server, as a request may be on its way to it."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the service, and closes no connection under a request that is on its way."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        with anyio.move_on_after(QUIET_SECONDS):
            while self.server_state.connections:  # noqa: ASYNC110  (uvicorn offers no event)
                await asyncio.sleep(0.01)
        await super().shutdown(sockets)


def _listening_socket(settings: ServiceSettings) -> socket.socket:
    if settings.http_fd is not None:
        return socket.socket(fileno=settings.http_fd)
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((settings.http_host, settings.http_port))
    return listening


async def _serve(make: Callable[[], tuple[Service, ASGIApp]]) -> int:
    service, app = make()
    settings = service.settings
    config = uvicorn.Config(
        app,
        http=http_protocol(settings.http_head_seconds),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="on",
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.grace_seconds),
    )
    server = _Server(config)
    draining: list[asyncio.Task[None]] = []

    async def stop() -> None:
        try:
            await service.drain()
        finally:
            server.should_exit = True

    def begin_stop() -> None:
        if draining:
            return
        log.info("stopping: finishing what is in flight")
        draining.append(asyncio.ensure_future(stop()))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin_stop)
    listening = _listening_socket(settings)
    log.info("listening", extra={"address": "{}:{}".format(*listening.getsockname()[:2])})
    await server.serve(sockets=[listening])
    for task in draining:
        await task
    flush_telemetry()
    code = 1 if service.failed or not server.started else 0
    if service.broken_off:
        # A thread may still be loading a model. It cannot be stopped, and the interpreter would wait for its end.
        logging.shutdown()
        os._exit(code)
    return code


def serve(make: Callable[[], tuple[Service, ASGIApp]]) -> int:
    """Run a service in this process until SIGTERM or SIGINT. Returns the exit code: 0 after a clean drain.

    If the service is stopped while it starts, the process exits here.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(make))


def main(name: str, settings_type: type[ServiceSettings], make: Callable[[Any], tuple[Service, ASGIApp]]) -> None:
    """`python -m services.<name> [--settings]`."""
    gc.freeze()  # what is imported stays
    try:
        settings = settings_type()
    except (ValidationError, SettingsError) as error:
        raise SystemExit(f"{name}: the settings cannot be used: {error}") from None
    if "--settings" in sys.argv[1:]:
        sys.stdout.write(describe(settings) + "\n")
        return
    set_up_telemetry(name, settings)
    sys.exit(serve(lambda: make(settings)))


def run_stage(name: str, process: Process, **options: Any) -> None:
    """Run one stage function as a service of its own; `options` are those of `Stage`."""

    @asynccontextmanager
    async def setup(_: Service) -> AsyncIterator[list[Stage]]:
        yield [Stage(name=name, process=process, **options)]

    def make(settings: ServiceSettings) -> tuple[Service, ASGIApp]:
        service = Service(name, settings, setup)
        return service, service.asgi()

    main(name, ServiceSettings, make)
