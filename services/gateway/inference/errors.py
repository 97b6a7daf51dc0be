"""Problems in the protocol's form: `{"error": message}`, with the problem itself beside it."""

from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from services.gateway.http.problems import Dialect, with_common_problems
from shared.contracts.problems import ProblemDetails, ProblemType
from shared.telemetry.tracing import trace_id

__all__ = ["DIALECTS", "MODEL_ERRORS", "InferenceError", "errors"]


class InferenceError(BaseModel):
    """`sluice` is the problem as all other paths of the API tell it."""

    error: str
    sluice: ProblemDetails


def errors(*kinds: ProblemType) -> dict[int | str, dict[str, Any]]:
    """For the API's document: the error responses of an endpoint, besides those that any may have."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for kind in with_common_problems(kinds):
        found[_status(kind.status)].append(f"`{kind.code}`: {kind.title}")
    described: dict[int | str, str] = {status: ". ".join(titles) for status, titles in sorted(found.items())}
    described["default"] = "Any other error"
    return {status: {"model": InferenceError, "description": text} for status, text in described.items()}


def _render(details: ProblemDetails, headers: Mapping[str, str]) -> Response:
    body = {
        "error": details.detail or details.title,
        "sluice": details.model_dump(exclude_none=True) | {"trace_id": trace_id()},
    }
    return Response(to_json(body), _status(details.status), dict(headers), "application/json")


def _status(status: int) -> int:
    """The protocol has one status for every invalid request."""
    return 400 if status == HTTPStatus.UNPROCESSABLE_ENTITY else status


DIALECTS: Final = (
    Dialect(paths=("/v2/models", "/v2/repository", "/v2/health"), render=_render),
    Dialect(paths=("/v1/models/",), ending=":predict", render=_render),
)

MODEL_ERRORS: Final = errors(
    ProblemType.MODEL_NOT_FOUND,
    ProblemType.MODEL_UNAVAILABLE,
    ProblemType.MODEL_FAILED,
    ProblemType.TOO_LARGE,
    ProblemType.QUEUE_FULL,
    ProblemType.STAGE_UNAVAILABLE,
    ProblemType.DEADLINE_EXCEEDED,
    ProblemType.STAGE_FAILED,
)
"""What any endpoint that calls a model may report."""
