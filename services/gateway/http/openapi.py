"""What the OpenAPI document says beyond what FastAPI finds out: request bodies, streams and problems."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.auth.dependencies import SECURITY
from services.gateway.http.models import (
    DoneBody,
    NewCollection,
    QueryRequest,
    SourcesBody,
    TextDelta,
    TextDocuments,
    UploadForm,
)
from services.gateway.http.problems import reported
from services.gateway.jobs.service import Cancel, NewJob, Retry
from services.gateway.keys.service import NewKey, Rotation
from services.gateway.openai.batches.service import NewBatch
from services.gateway.openai.files.service import FileForm
from services.gateway.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from services.gateway.openai.responses import ChatChunk
from services.gateway.schedules.service import NewSchedule
from services.gateway.variants.service import NewRoute
from shared.contracts.problems import JSON, ProblemDetails, ProblemType

__all__ = ["body", "describe_api", "event_stream", "problems"]

REF: Final = "#/components/schemas/{model}"
UNLISTED: Final[tuple[type[BaseModel], ...]] = (
    Cancel,
    ChatChunk,
    ChatRequest,
    CompletionRequest,
    DoneBody,
    EmbeddingRequest,
    FileForm,
    NewBatch,
    NewCollection,
    NewJob,
    NewKey,
    NewRoute,
    NewSchedule,
    ProblemDetails,
    QueryRequest,
    Retry,
    Rotation,
    SourcesBody,
    TextDelta,
    TextDocuments,
    UploadForm,
)
"""Models that FastAPI does not meet in the signature of an endpoint."""

Responses = dict[int | str, dict[str, Any]]


def problems(*kinds: ProblemType) -> Responses:
    """The responses of an endpoint that reports these problems, besides those that any may report."""
    by_status: dict[int, list[ProblemType]] = defaultdict(list)
    for kind in reported(kinds):
        by_status[kind.status].append(kind)
    return {status: _documented(members) for status, members in sorted(by_status.items())}


def body(**media: type[BaseModel]) -> dict[str, Any]:
    """A request body; `json` and `multipart` name the model of each form it may have."""
    types = {"json": "application/json", "multipart": "multipart/form-data"}
    content = {types[form]: {"schema": {"$ref": REF.format(model=model.__name__)}} for form, model in media.items()}
    return {"requestBody": {"required": True, "content": content}}


def event_stream(description: str) -> dict[str, Any]:
    """The content of a response of server-sent events."""
    return {"text/event-stream": {"schema": {"type": "string", "description": description}}}


def describe_api(app: FastAPI) -> None:
    """Let the app make its OpenAPI document, once, with the models that endpoints read by themselves."""

    def make() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, definitions = models_json_schema([(model, "validation") for model in UNLISTED], ref_template=REF)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in definitions.get("$defs", {}).items():
                schemas.setdefault(name, schema)
            document["components"]["securitySchemes"] = SECURITY
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = make  # type: ignore[method-assign]


def _documented(kinds: Iterable[ProblemType]) -> dict[str, Any]:
    unique = list(dict.fromkeys(kinds))
    examples = {
        kind.code: {"value": {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": "..."}}
        for kind in unique
    }
    schema = {"$ref": REF.format(model=ProblemDetails.__name__)}
    return {
        "description": ". ".join(kind.title for kind in unique),
        "content": {JSON: {"schema": schema, "examples": examples}},
    }
