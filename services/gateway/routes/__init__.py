"""The HTTP API, one module per kind of resource."""

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

__all__ = ["add_routes"]


def add_routes(app: FastAPI) -> None:
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
    ):
        app.include_router(module.router)
