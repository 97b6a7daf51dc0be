"""The search of one version of a collection, as a query that asks for nothing else would have it."""

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from shared.contracts.envelope import Stop
from shared.contracts.retrieval import RetrievalOptions

__all__ = ["search_stops"]

RETRIEVE: Final = "retrieve"
RERANK: Final = "rerank"


def search_stops(
    options: RetrievalOptions,
    *,
    top_k: int,
    rerank_candidates: int = 0,
    rerank_params: Mapping[str, JsonValue] | None = None,
) -> tuple[Stop, ...]:
    """The stops after `embed` that find the best `top_k` passages, by the reranker where it has candidates."""
    found = max(rerank_candidates, top_k) if rerank_candidates else top_k
    retrieve = Stop(stage=RETRIEVE, params={**options.as_params(), "top_k": found})
    if not rerank_candidates:
        return (retrieve,)
    return retrieve, Stop(stage=RERANK, params={"top_k": top_k, **(rerank_params or {})})
