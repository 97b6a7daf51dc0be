"""Every router of the HTTP API, in the order of the OpenAPI document."""

from typing import Final

from fastapi import FastAPI

from services.gateway.admin.dead_letters import router as dead_letters
from services.gateway.admin.status import router as status
from services.gateway.admin.traces_router import router as traces
from services.gateway.artifacts.router import router as artifacts
from services.gateway.collections.router import router as collections
from services.gateway.documents.router import router as documents
from services.gateway.jobs.router import router as jobs
from services.gateway.keys.router import router as keys
from services.gateway.openai.batches.router import router as batches
from services.gateway.openai.files.router import router as files
from services.gateway.openai.router import router as openai
from services.gateway.queries.router import router as queries
from services.gateway.schedules.router import router as schedules
from services.gateway.variants.router import router as variants

__all__ = ["ROUTERS", "add_routes"]

ROUTERS: Final = (
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
    variants,
    dead_letters,
    keys,
)


def add_routes(app: FastAPI) -> None:
    for router in ROUTERS:
        app.include_router(router)
