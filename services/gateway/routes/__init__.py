"""The HTTP API, one module per kind of resource."""

from typing import Final

from fastapi import FastAPI

from services.gateway.routes import (
    artifacts,
    batches,
    collections,
    dead_letters,
    documents,
    files,
    jobs,
    keys,
    openai,
    queries,
    schedules,
    status,
    traces,
    traffic,
)

__all__ = ["ROUTERS", "add_routes"]

ROUTERS: Final = tuple(
    module.router
    for module in (
        queries,
        openai,
        files,
        batches,
        collections,
        documents,
        jobs,
        artifacts,
        schedules,
        status,
        traces,
        traffic,
        dead_letters,
        keys,
    )
)


def add_routes(app: FastAPI) -> None:
    for router in ROUTERS:
        app.include_router(router)
