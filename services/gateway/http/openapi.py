"""What endpoints declare for the OpenAPI document beyond what FastAPI derives: request bodies, streams and problems."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.auth.dependencies import SECURITY
from services.gateway.http.problems import with_common_problems
from shared.contracts.problems import JSON, ProblemDetails, ProblemType

__all__ = ["request_body", "describe_api", "event_stream", "problems"]

REF: Final = "#/components/schemas/{model}"
Responses = dict[int | str, dict[str, Any]]


def problems(*kinds: ProblemType) -> Responses:
    """The responses of an endpoint that reports these problems, besides those that any may report."""
    by_status: dict[int, list[ProblemType]] = defaultdict(list)
    for kind in with_common_problems(kinds):
        by_status[kind.status].append(kind)
    return {status: _documented(members) for status, members in sorted(by_status.items())}


def request_body(**media: type[BaseModel]) -> dict[str, Any]:
    """A request body; `json` and `multipart` name the model of each form it may have."""
    types = {"json": "application/json", "multipart": "multipart/form-data"}
    content = {types[form]: {"schema": _schema(model)} for form, model in media.items()}
    return {"requestBody": {"required": True, "content": content}}


def event_stream(description: str, *events: type[BaseModel]) -> dict[str, Any]:
    """The content of a response of server-sent events, with the models of their data."""
    schema = {"type": "string", "description": description, "$defs": _definitions(events)}
    return {"text/event-stream": {"schema": schema}}


def describe_api(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Let the app make its OpenAPI document, once. Models that endpoints declare themselves move to the components."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]

    def make() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            _take_definitions(document["paths"])
            # From the routes: FastAPI leaves out defaults of null.
            declared = [(r.openapi_extra, r.responses) for r in routes]
            for name, schema in (_definitions([ProblemDetails]) | _take_definitions(deepcopy(declared))).items():
                schemas.setdefault(name, schema)
            components["securitySchemes"] = SECURITY
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = make  # type: ignore[method-assign]


def _definitions(models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    _, document = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    definitions: dict[str, Any] = document.get("$defs", {})
    return definitions


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": REF.format(model=model.__name__), "$defs": _definitions([model])}


def _take_definitions(node: Any) -> dict[str, Any]:
    """Take every `$defs` out of a part of the document."""
    found: dict[str, Any] = {}
    if isinstance(node, dict):
        found = node.pop("$defs", {})
        for child in node.values():
            found |= _take_definitions(child)
    elif isinstance(node, list | tuple):
        for child in node:
            found |= _take_definitions(child)
    return found


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
