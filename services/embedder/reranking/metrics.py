"""What reranking measures beside the stage's own metrics."""

from prometheus_client import Counter

__all__ = ["CACHED_PASSAGES", "RERANKED_PASSAGES"]

RERANKED_PASSAGES = Counter(
    "sluice_rerank_passages_total",
    "Candidates that the stage rerank was given: scored, or left as they were when the time budget was over.",
    ("outcome",),
)
CACHED_PASSAGES = Counter(
    "sluice_rerank_cache_total", "Passages whose token vectors were looked up: hit or miss.", ("result",)
)
