"""POST /v1/completions"""

from typing import Final

from fastapi import Request
from starlette.responses import Response

from services.gateway.auth.dependencies import direct_router, requires
from services.gateway.http.body import read_json
from services.gateway.http.openapi import event_stream, request_body
from services.gateway.openai.completions.formatter import CompletionFormatter
from services.gateway.openai.errors import GENERATION_ERRORS, STREAM
from services.gateway.openai.planner import openai_planner
from services.gateway.openai.requests import CompletionRequest
from services.gateway.openai.responses import Completion
from services.gateway.queries.responses import answer
from shared.contracts.keys import Action

__all__ = ["router"]

router = direct_router("openai")

MAX_BODY: Final = 768 * 1024
"""Bytes of a request. It must fit into one message of the broker, together with the passages."""


@router.post(
    "/v1/completions",
    summary="Let a model go on from a text",
    response_class=Response,
    openapi_extra=request_body(json=CompletionRequest),
    responses={
        200: {"model": Completion, "description": "The text, or chunks of it", "content": event_stream(STREAM)},
        **GENERATION_ERRORS,
    },
)
@requires(Action.QUERY)
async def complete(request: Request) -> Response:
    """As in OpenAI's API, for one prompt."""
    planner, queries = await openai_planner(request)
    body = await read_json(request, CompletionRequest, MAX_BODY)
    query, format_context = await planner.plan_completion(body)
    return await answer(request, queries, query, CompletionFormatter(format_context), streamed=body.stream)
