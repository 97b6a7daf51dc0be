"""POST /v1/chat/completions"""

from typing import Final

from fastapi import Request
from starlette.responses import Response

from services.gateway.auth.dependencies import direct_router, requires
from services.gateway.http.body import read_json
from services.gateway.http.openapi import event_stream, request_body
from services.gateway.openai.chat.formatter import ChatFormatter
from services.gateway.openai.errors import GENERATION_ERRORS, STREAM
from services.gateway.openai.planner import openai_planner
from services.gateway.openai.requests import ChatRequest
from services.gateway.openai.responses import ChatChunk, ChatCompletion
from services.gateway.queries.responses import answer
from shared.contracts.keys import Action

__all__ = ["router"]

router = direct_router("openai")

MAX_BODY: Final = 768 * 1024
"""Bytes of a request. It must fit into one message of the broker, together with the passages."""


@router.post(
    "/v1/chat/completions",
    summary="Chat with a model, or with the documents of a collection",
    response_class=Response,
    openapi_extra=request_body(json=ChatRequest),
    responses={
        200: {
            "model": ChatCompletion,
            "description": "The answer, or chunks of it (ChatChunk)",
            "content": event_stream(STREAM, ChatChunk),
        },
        **GENERATION_ERRORS,
    },
)
@requires(Action.QUERY)
async def chat(request: Request) -> Response:
    """As in OpenAI's API. The model `rag/<collection>` answers from documents and says from which."""
    planner, queries = await openai_planner(request)
    body = await read_json(request, ChatRequest, MAX_BODY)
    query, format_context = await planner.plan_chat(body)
    formatter = ChatFormatter(format_context)
    return await answer(request, queries, query, formatter, streamed=body.stream, collection=format_context.collection)
