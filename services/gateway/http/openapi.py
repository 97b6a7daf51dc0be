"""What endpoints declare for the OpenAPI document beyond what FastAPI derives: request bodies, streams and problems."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.auth.dependencies import SECURITY
from services.gateway.http.problems import with_common_problems
from shared.contracts.problems import JSON, ProblemDetails, ProblemType

__all__ = ["request_body", "describe_api", "event_stream", "problems"]

REF: Final = "#/components/schemas/{model}"
_declared: dict[str, type[BaseModel]] = {}
"""Models that FastAPI does not meet in the signature of an endpoint, by name, as the routers declare them."""

Responses = dict[int | str, dict[str, Any]]


def problems(*kinds: ProblemType) -> Responses:
    """The responses of an endpoint that reports these problems, besides those that any may report."""
    by_status: dict[int, list[ProblemType]] = defaultdict(list)
    for kind in with_common_problems(kinds):
        by_status[kind.status].append(kind)
    return {status: _documented(members) for status, members in sorted(by_status.items())}


def request_body(*, required: bool = True, **media: type[BaseModel]) -> dict[str, Any]:
    """A request body; `json` and `multipart` name the model of each form it may have."""
    types = {"json": "application/json", "multipart": "multipart/form-data"}
    content = {types[form]: {"schema": _reference(model)} for form, model in media.items()}
    return {"requestBody": {"required": required, "content": content}}


def event_stream(description: str, *events: type[BaseModel]) -> dict[str, Any]:
    """The content of a response of server-sent events. `events` are the models that the description names."""
    for event in events:
        _reference(event)
    return {"text/event-stream": {"schema": {"type": "string", "description": description}}}


def describe_api(app: FastAPI) -> None:
    """Let the app make its OpenAPI document at the first request for it, with the models that endpoints declare."""

    def make() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, definitions = models_json_schema([(m, "validation") for m in _declared.values()], ref_template=REF)
            components = document.setdefault("components", {})
            components["schemas"] = definitions["$defs"] | components.get("schemas", {})
            components["securitySchemes"] = SECURITY
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = make  # type: ignore[method-assign]


def _reference(model: type[BaseModel]) -> dict[str, str]:
    _declared[model.__name__] = model
    return {"$ref": REF.format(model=model.__name__)}


def _documented(kinds: Iterable[ProblemType]) -> dict[str, Any]:
    unique = list(dict.fromkeys(kinds))
    examples = {
        kind.code: {"value": {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": "..."}}
        for kind in unique
    }
    schema = _reference(ProblemDetails)
    return {
        "description": ". ".join(kind.title for kind in unique),
        "content": {JSON: {"schema": schema, "examples": examples}},
    }
