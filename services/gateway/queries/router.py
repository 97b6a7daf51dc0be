"""POST /v1/query"""

from typing import Final

from fastapi import Request
from starlette.responses import Response

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import context_of
from services.gateway.http.body import read_json
from services.gateway.http.models import AnswerBody, QueryRequest
from services.gateway.http.openapi import body, event_stream, problems
from services.gateway.queries.formatter import QueryFormatter
from services.gateway.queries.planner import QueryPlan, plan_query, validate_question, validate_timeout
from services.gateway.queries.responses import JsonAnswer, StreamedAnswer
from shared.contracts.filters import parse
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType

__all__ = ["router"]

router = authenticated_router("queries")

MAX_BODY: Final = 512 * 1024
"""Bytes of a query's body; what the slip carries must fit into one message of the broker."""


@router.post(
    "/v1/query",
    summary="Ask a question",
    response_class=Response,
    openapi_extra=body(json=QueryRequest),
    responses={
        200: {
            "model": AnswerBody,
            "description": "The answer, as JSON or as server-sent events",
            "content": event_stream(
                "`sources` (SourcesBody), then `delta` (TextDelta) as often as needed, then `done` (DoneBody); "
                "or `error` (ProblemDetails) instead of what is left."
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
            ProblemType.CONTEXT_EXCEEDED,
            ProblemType.TOO_LARGE,
            ProblemType.QUEUE_FULL,
            ProblemType.STAGE_UNAVAILABLE,
            ProblemType.DEADLINE_EXCEEDED,
            ProblemType.ANSWER_INTERRUPTED,
            ProblemType.ENGINE_FAILED,
            ProblemType.STAGE_FAILED,
        ),
    },
)
@requires(Action.QUERY)
async def ask(request: Request) -> Response:
    """Answers from the documents of a collection, and names the passages that it did so from."""
    context = context_of(request)
    principal = context.terms.principal
    backend = await context.backend()
    asked = await read_json(request, QueryRequest, MAX_BODY)
    question = validate_question(asked.question, context.settings)
    if asked.filter:
        parse(asked.filter)
    plan = QueryPlan(
        question=question,
        pipeline=asked.pipeline,
        top_k=asked.top_k if "top_k" in asked.model_fields_set else None,
        default_top_k=asked.top_k,
        filter=asked.filter,
        timeout=validate_timeout(asked.timeout, context.settings),
        collection=await backend.cache.get(
            principal.tenant, principal.need_collection(asked.collection), asked.version
        ),
        messages=tuple(turn.message() for turn in asked.messages),
        conversation=asked.conversation,
        generate=asked.generate.params_at("generate"),
    )
    query = plan_query(context, plan)
    streamed = asked.stream or "text/event-stream" in request.headers.get("accept", "")
    return (StreamedAnswer if streamed else JsonAnswer)(backend.queries, query, QueryFormatter())
