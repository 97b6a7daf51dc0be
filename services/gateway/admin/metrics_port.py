"""A port of its own for /metrics and /backlog: it requires no key, so only the monitoring and autoscalers should reach
it."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.settings import GatewaySettings
from shared.service.service import ASGIApp

__all__ = ["Page", "serve_metrics"]

Page = ASGIApp | Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 16
GRACE: Final = 1
"""Seconds in which a scrape may end when the gateway stops."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the service."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve_metrics(pages: Mapping[str, Page], settings: GatewaySettings) -> AsyncIterator[None]:
    """Serve the pages while the block runs, if a port is set. Raises OSError where the port is not available."""
    if settings.metrics_port is None:
        yield
        return
    family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
    try:
        listening = socket.create_server((settings.metrics_host, settings.metrics_port), family=family)
    except OSError as error:
        log.critical("cannot serve metrics: %s. Change SLUICE_METRICS_HOST or SLUICE_METRICS_PORT", error)
        raise
    config = uvicorn.Config(
        Starlette(routes=[Route(path, page, methods=["GET"]) for path, page in pages.items()]),
        log_config=None,
        access_log=False,
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config)
    log.info("serving metrics", extra={"address": f"{settings.metrics_host}:{settings.metrics_port}"})
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
