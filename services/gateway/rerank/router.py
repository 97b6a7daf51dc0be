"""POST /v1/rerank and POST /v2/rerank"""

from typing import Final

from fastapi import Request
from pydantic_core import to_json
from starlette.responses import Response

from services.gateway.auth.dependencies import direct_router, requires
from services.gateway.http.body import read_json
from services.gateway.http.openapi import problems, request_body
from services.gateway.rerank.models import (
    ApiVersion,
    BilledUnits,
    DocumentText,
    Meta,
    RerankRequest,
    RerankRequestV2,
    RerankResponse,
    RerankResponseV2,
    RerankResult,
    RerankUsage,
    TeiRank,
    TokenCount,
)
from services.gateway.rerank.service import Ranking, rank
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType

__all__ = ["router"]

router = direct_router("rerank")

MAX_BODY: Final = 32 * 2**20
"""Bytes of a request."""

PROBLEMS: Final = problems(
    ProblemType.INVALID_REQUEST,
    ProblemType.INVALID_QUESTION,
    ProblemType.MODEL_NOT_FOUND,
    ProblemType.TOO_LARGE,
    ProblemType.QUEUE_FULL,
    ProblemType.STAGE_UNAVAILABLE,
    ProblemType.DEADLINE_EXCEEDED,
    ProblemType.RERANKER_FAILED,
    ProblemType.STAGE_FAILED,
)


@router.post(
    "/v1/rerank",
    summary="Order documents by a question",
    response_class=Response,
    openapi_extra=request_body(json=RerankRequest),
    responses={
        200: {"model": RerankResponse | list[TeiRank], "description": "The documents' scores, the best first"},
        **PROBLEMS,
    },
)
@requires(Action.QUERY)
async def rerank(request: Request) -> Response:
    """Takes what clients of Cohere v1, Jina, vLLM and TEI send; a request with `texts` is answered as TEI does."""
    body = await read_json(request, RerankRequest, MAX_BODY)
    texts = body.read_texts()
    ranking = await rank(request, body.query, texts, model=body.model, timeout=body.timeout)
    ranked = ranking.ranked[: body.top_n]
    if body.is_tei:
        return _json(
            [TeiRank(index=r.index, score=r.score, text=r.text if body.returns_texts else None) for r in ranked]
        )
    return _json(
        RerankResponse(
            id=ranking.id,
            model=ranking.model,
            results=_results(ranking, body.top_n, with_texts=body.returns_texts),
            usage=RerankUsage(prompt_tokens=ranking.tokens, total_tokens=ranking.tokens),
            meta=_meta(ranking, "1"),
        )
    )


@router.post(
    "/v2/rerank",
    summary="Order documents by a question, in the form of Cohere v2",
    response_class=Response,
    openapi_extra=request_body(json=RerankRequestV2),
    responses={200: {"model": RerankResponseV2, "description": "The documents' scores, the best first"}, **PROBLEMS},
)
@requires(Action.QUERY)
async def rerank_v2(request: Request) -> Response:
    """What clients of Cohere's API v2 send and expect."""
    body = await read_json(request, RerankRequestV2, MAX_BODY)
    ranking = await rank(request, body.query, body.documents, model=body.model)
    results = _results(ranking, body.top_n)
    return _json(RerankResponseV2(id=ranking.id, results=results, meta=_meta(ranking, "2")))


def _results(ranking: Ranking, top_n: int | None, *, with_texts: bool = False) -> list[RerankResult]:
    return [
        RerankResult(
            index=one.index,
            relevance_score=one.score,
            document=DocumentText(text=one.text) if with_texts else None,
        )
        for one in ranking.ranked[:top_n]
    ]


def _meta(ranking: Ranking, version: str) -> Meta:
    return Meta(
        api_version=ApiVersion.model_validate({"version": version}),
        billed_units=BilledUnits.of(len(ranking.ranked)),
        tokens=TokenCount(input_tokens=ranking.tokens),
    )


def _json(body: object) -> Response:
    return Response(to_json(body, exclude_none=True), media_type="application/json")
