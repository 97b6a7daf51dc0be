"""POST /v1/embeddings"""

from typing import Final

from fastapi import Request
from starlette.responses import Response

from services.gateway.auth.dependencies import direct_router, requires
from services.gateway.http.body import read_json
from services.gateway.http.openapi import request_body
from services.gateway.openai.embeddings.service import embed_texts
from services.gateway.openai.errors import GENERATION_ERRORS
from services.gateway.openai.planner import openai_planner
from services.gateway.openai.requests import EmbeddingRequest
from services.gateway.openai.responses import EmbeddingList
from shared.contracts.keys import Action

__all__ = ["router"]

router = direct_router("openai")

MAX_BODY: Final = 32 * 2**20
"""Bytes of a request."""


@router.post(
    "/v1/embeddings",
    summary="Turn texts into vectors",
    response_class=Response,
    openapi_extra=request_body(json=EmbeddingRequest),
    responses={
        200: {"model": EmbeddingList, "description": "A vector for each text, in their order"},
        **GENERATION_ERRORS,
    },
)
@requires(Action.QUERY)
async def embed(request: Request) -> Response:
    """Vectors of length 1. Texts are cut at what the model takes."""
    planner, queries = await openai_planner(request)
    body = await read_json(request, EmbeddingRequest, MAX_BODY)
    return await embed_texts(request, queries, body, await planner.plan_embeddings(body))
