"""The gateway: HTTP in, events out. It publishes `query.*` and `job.*`, and receives `reply.*` and `event.job.*`."""

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Final

import anyio
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from faststream.asgi import make_asyncapi_asgi
from faststream.specification import AsyncAPI
from starlette.routing import BaseRoute, Route

from services.gateway.admin.backlog import Backlog
from services.gateway.admin.metrics_port import Page, serve_metrics
from services.gateway.auth.dependencies import AuthenticatedPage
from services.gateway.auth.exposure import check_exposure
from services.gateway.console.pages import console_routes
from services.gateway.http.direct_routes import DirectRoutes
from services.gateway.http.openapi import describe_api
from services.gateway.http.problems import handle_problems
from services.gateway.inference.errors import DIALECTS
from services.gateway.middleware.audit import audit_middleware
from services.gateway.middleware.telemetry import TelemetryMiddleware
from services.gateway.openai.errors import DIALECT
from services.gateway.queries.pipelines import PipelinesError, load_pipelines
from services.gateway.routers import DIRECT, ROUTERS
from services.gateway.sessions.options import options_route
from services.gateway.settings import GatewaySettings
from services.gateway.stages.request import RequestStage
from services.gateway.state import GatewayState
from shared.contracts.keys import Action
from shared.service.asyncapi import describe_jobs
from shared.service.service import ASGIApp, Service
from shared.service.storage import Storage
from shared.version import VERSION

__all__ = ["FRAMEWORK_TELEMETRY", "make"]

log = logging.getLogger(__name__)

FRAMEWORK_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
}
"""FastAPI measures and traces nothing itself: `TelemetryMiddleware` makes the span that the stages continue."""


def make(settings: GatewaySettings) -> tuple[Service, ASGIApp]:
    """The service and its ASGI app. Exits with a message when the pipelines file cannot be used."""
    try:
        pipelines = load_pipelines(settings.pipelines)
    except PipelinesError as error:
        raise SystemExit(f"gateway: {error}") from None
    check_exposure(settings)

    state = GatewayState(settings, pipelines)
    requests = RequestStage(state, settings.request_room)
    service = Service(
        "gateway",
        settings,
        partial(state.setup, [requests.stage]),
        storage=Storage.WATCHED,
        patience=settings.broker_patience,
    )
    state.storage = service.storage
    backlog = Backlog(service.bus)
    service.before_scrape.append(backlog.update_metrics)
    open_pages: dict[str, Page] = {"/metrics": service.pages()["/metrics"], "/backlog": backlog.page}
    state.notifier.subscribe(service.bus.broker)
    describe_jobs(service.bus.broker)
    app = FastAPIOffline(
        title="Sluice",
        version=VERSION,
        description="Answers from your own documents.",
        lifespan=lambda _: _lifespan(service, state, serve_metrics(open_pages, settings), grpc()),
        redirect_slashes=False,
        telemetry=FRAMEWORK_TELEMETRY,
        redoc_url=None,
    )
    app.state.gateway = state
    requests.app = app
    for router in ROUTERS:
        app.include_router(router)
    handle_problems(app, *DIALECTS, DIALECT)
    describe_api(app)
    specification = AsyncAPI(service.bus.broker, title="Sluice gateway", version=VERSION)
    pages = service.pages()
    pages["/metrics"] = AuthenticatedPage(pages["/metrics"], Action.METRICS, any_host=True)
    pages["/asyncapi"] = AuthenticatedPage(make_asyncapi_asgi(specification), Action.ADMIN)
    app.router.routes.extend(
        Route(path, page, methods=["GET"], include_in_schema=False) for path, page in pages.items()
    )
    if settings.console:
        app.router.routes.extend([*_sign_in_routes(settings, state), *console_routes()])

    def surrounded(inner: ASGIApp) -> ASGIApp:
        return TelemetryMiddleware(audit_middleware(inner, state.authenticator, settings), service.draining)

    def grpc() -> AbstractAsyncContextManager[None]:
        return _grpc_server(service, settings, app, surrounded)

    return service, surrounded(DirectRoutes(app, DIRECT))


def _grpc_server(
    service: Service, settings: GatewaySettings, app: FastAPI, surrounded: Callable[[ASGIApp], ASGIApp]
) -> AbstractAsyncContextManager[None]:
    if settings.grpc_port is None:
        return nullcontext()
    # Logs are lines of JSON, which gRPC's own are not: what it has to say are the statuses of its calls.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Every other gateway would carry its library for nothing.
    from services.gateway.inference.grpc.server import serve_grpc

    return serve_grpc(service, settings, app, surrounded)


def _sign_in_routes(settings: GatewaySettings, state: GatewayState) -> list[BaseRoute]:
    routes: list[BaseRoute] = [options_route(settings)]
    if settings.openid_issuer:
        # An HTTP client would cost every other gateway a tenth of a second and 8 MB.
        from services.gateway.sessions.openid_routes import openid_routes

        routes.extend(openid_routes(settings, state.authenticator.sessions))
    return routes


@asynccontextmanager
async def _lifespan(
    service: Service,
    state: GatewayState,
    metrics_port: AbstractAsyncContextManager[None],
    grpc_port: AbstractAsyncContextManager[None],
) -> AsyncIterator[None]:
    """The service beside the HTTP server. It connects in the background: /livez answers without the broker."""
    async with metrics_port, service.lifespan():
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_connect, service)
                async with grpc_port:
                    yield
                tasks.cancel_scope.cancel()
        finally:
            await state.write_counts()
            await service.bus.broker.stop()


async def _connect(service: Service) -> None:
    try:
        await service.bus.broker.start()
        await service.bus.started()
    except Exception:
        log.critical("cannot connect to the broker", exc_info=True)
        service.failed = True
        signal.raise_signal(signal.SIGTERM)
