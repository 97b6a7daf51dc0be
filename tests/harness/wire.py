"""The wire contract: what is written today must be read by the versions before and after.

`python -m tests.harness.wire` writes `tests/data/wire/contract.json` anew. Do so only for changes that the rules in
docs/compatibility.md allow: the tests compare with what was written before.
"""

import json
import types
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from shared.contracts.collections import Collection
from shared.contracts.documents import Document
from shared.contracts.envelope import Query
from shared.contracts.events import AnyEvent, Cancel, Delivered
from shared.contracts.generation import GenerateParams
from shared.contracts.graphs.nodes import CONTROLS
from shared.contracts.indexing import IndexChange
from shared.contracts.jobs import KINDS, Job, JobOptions
from shared.contracts.pipelines import PipelineState
from shared.contracts.problems import ProblemDetails
from shared.contracts.requests import Request
from shared.contracts.results import IndexOutcome, Response
from shared.contracts.routes import Route
from shared.contracts.schedules.schedule import Schedule
from shared.service.service import ServiceStatus
from shared.stores.files import FileRecord
from tests.harness.paths import WIRE

__all__ = ["CONTRACT", "MODELS", "contract", "enums"]

CONTRACT = WIRE / "contract.json"

ROOTS: tuple[type[BaseModel], ...] = (
    Query,
    Cancel,
    Delivered,
    *get_args(AnyEvent),
    *CONTROLS.values(),
    *KINDS.values(),
    Job,
    JobOptions,
    Collection,
    Document,
    FileRecord,
    GenerateParams,
    IndexChange,
    IndexOutcome,
    PipelineState,
    ProblemDetails,
    Request,
    Response,
    Route,
    Schedule,
    ServiceStatus,
)


def _types(annotation: Any) -> list[type]:
    """The classes that an annotation names."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType) or get_args(annotation):
        return [found for part in get_args(annotation) for found in _types(part)]
    return []


def _reached() -> tuple[dict[str, type[BaseModel]], dict[str, type[StrEnum]]]:
    models: dict[str, type[BaseModel]] = {}
    closed: dict[str, type[StrEnum]] = {}
    waiting = list(ROOTS)
    while waiting:
        model = waiting.pop()
        if model.__name__ in models:
            continue
        models[model.__name__] = model
        for field in model.model_fields.values():
            for found in _types(field.annotation):
                if issubclass(found, BaseModel):
                    waiting.append(found)
                elif issubclass(found, StrEnum):
                    closed[found.__name__] = found
    return dict(sorted(models.items())), dict(sorted(closed.items()))


MODELS, ENUMS = _reached()


def enums() -> dict[str, list[str]]:
    return {name: sorted(found) for name, found in ENUMS.items()}


def _members(model: type[BaseModel]) -> dict[str, Any]:
    """Each member with its default, or that it is required."""
    return {
        name: "required"
        if field.is_required()
        else {"default": to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))}
        for name, field in model.model_fields.items()
    }


def contract() -> dict[str, Any]:
    return {"models": {name: _members(model) for name, model in MODELS.items()}, "enums": enums()}


if __name__ == "__main__":
    CONTRACT.parent.mkdir(parents=True, exist_ok=True)
    CONTRACT.write_text(json.dumps(contract(), indent=1) + "\n")
