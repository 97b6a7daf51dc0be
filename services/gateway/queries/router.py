"""POST /v1/query"""

from typing import Final

from fastapi import Request
from starlette.responses import Response

from services.gateway.auth.dependencies import direct_router, requires
from services.gateway.context import context_of
from services.gateway.http.body import read_json
from services.gateway.http.models import QueryRequest
from services.gateway.http.openapi import event_stream, problems, request_body
from services.gateway.queries.formatter import QueryFormatter
from services.gateway.queries.planner import Countdown, QueryPlan, validate_question, validate_timeout
from services.gateway.queries.responses import answer
from services.gateway.state import state_of
from shared.contracts.filters import parse
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from sluice.api.queries import Answer, Delta, Done, Sources

__all__ = ["router"]

router = direct_router("queries")

MAX_BODY: Final = 512 * 1024
"""Bytes of a query's body; what the slip carries must fit into one message of the broker."""


@router.post(
    "/v1/query",
    summary="Ask a question",
    response_class=Response,
    openapi_extra=request_body(json=QueryRequest),
    responses={
        200: {
            "model": Answer,
            "description": "The answer, as JSON or as server-sent events",
            "content": event_stream(
                "`sources` (Sources), then `delta` (Delta) as often as needed, then `done` (Done); "
                "or `error` (ProblemDetails) instead of what is left.",
                Sources,
                Delta,
                Done,
            ),
        },
        **problems(
            ProblemType.INVALID_QUESTION,
            ProblemType.INVALID_FILTER,
            ProblemType.COLLECTION_NOT_FOUND,
            ProblemType.PIPELINE_NOT_FOUND,
            ProblemType.NOT_FOUND,
            ProblemType.VERSION_NOT_READY,
            ProblemType.COLLECTION_EMPTY,
            ProblemType.INDEX_DAMAGED,
            ProblemType.INDEX_UNAVAILABLE,
            ProblemType.CONTEXT_EXCEEDED,
            ProblemType.TOO_LARGE,
            ProblemType.QUEUE_FULL,
            ProblemType.STAGE_UNAVAILABLE,
            ProblemType.DEADLINE_EXCEEDED,
            ProblemType.ANSWER_INTERRUPTED,
            ProblemType.ENGINE_FAILED,
            ProblemType.RERANKER_FAILED,
            ProblemType.STAGE_FAILED,
        ),
    },
)
@requires(Action.QUERY)
async def ask(request: Request) -> Response:
    """Answers from the documents of a collection, and names the passages that it did so from."""
    state, context = state_of(request), context_of(request)
    principal, settings = context.principal, state.settings
    backend = await state.backend(hold=False)
    body = await read_json(request, QueryRequest, MAX_BODY)
    question = validate_question(body.question, settings)
    if body.filter:
        parse(body.filter)
    countdown = Countdown(validate_timeout(body.timeout, settings))
    name = principal.need_collection(body.collection)
    collection = await backend.cache.get(principal.tenant, name, body.version, patience=countdown.left)
    plan = QueryPlan(
        question=question,
        pipeline=body.pipeline,
        top_k=body.top_k if "top_k" in body.model_fields_set else None,
        default_top_k=body.top_k,
        filter=body.filter,
        rerank=body.rerank if "rerank" in body.model_fields_set else None,
        candidates=body.candidates,
        timeout=countdown.left,
        collection=collection,
        messages=tuple(turn.message() for turn in body.messages),
        conversation=body.conversation,
        retrieval=body.retrieval,
        generate=body.generate.params_at("generate"),
        metadata=body.metadata,
    )
    query = state.planner.plan(context, plan)
    streamed = body.stream or "text/event-stream" in request.headers.get("accept", "")
    return await answer(request, backend.queries, query, QueryFormatter(), streamed=streamed, collection=name)
