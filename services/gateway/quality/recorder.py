"""Counts how interactive questions end, and how near to them what was found for them is, by collection.

Questions that move away from what a collection is about are further from its passages, score lower and are declined
more often; so do those of a version that finds less. The alerts on drift compare these metrics with those of the week
before. Questions of evaluations and batches are left out, as they are nobody's who wants to know.
"""

from typing import Final

from prometheus_client import Counter, Histogram

from services.gateway.queries.session import QuerySession
from shared.contracts.collections import readable_name
from shared.contracts.envelope import Lane, Query
from shared.contracts.problems import Problem
from shared.telemetry.metrics import BoundedLabel, tenants

__all__ = ["record_quality"]

LABELS: Final = ("tenant", "collection", "version")
TENTHS: Final = tuple(tenth / 10 for tenth in range(1, 11))

ANSWERS = Counter(
    "sluice_gateway_answers_total",
    "Interactive questions to a collection by how they ended: answered, declined (the sources say nothing of it) or "
    "failed.",
    (*LABELS, "outcome"),
)
SCORE = Histogram(
    "sluice_gateway_best_score",
    "Score of the best passage that was found for an interactive question, 0 to 1.",
    LABELS,
    buckets=TENTHS,
)
SIMILARITY = Histogram(
    "sluice_gateway_question_similarity",
    "Cosine of an interactive question and the nearest passage that was found for it.",
    LABELS,
    buckets=TENTHS,
)

collections = BoundedLabel(200)
"""Of all tenants together; a collection's versions share its place."""

versions = BoundedLabel(400)


def record_quality(session: QuerySession, problem: Problem | None) -> None:
    """Count a question that has ended."""
    query, ended = session.query, session.ended
    if query.lane is not Lane.INTERACTIVE or not query.collection_id or (ended is None and not _failed(problem)):
        return
    labels = _labels(query)
    if ended is None:
        ANSWERS.labels(*labels, "failed").inc()
        return
    ANSWERS.labels(*labels, "declined" if ended.answerable is False else "answered").inc()
    if sources := session.answer.sources:
        SCORE.labels(*labels).observe(max(passage.score for passage in sources))
        if similarities := [passage.similarity for passage in sources if passage.similarity is not None]:
            SIMILARITY.labels(*labels).observe(max(similarities))


def _labels(query: Query) -> tuple[str, str, str]:
    tenant, name = tenants.label(query.tenant), readable_name(query.collection)
    if tenant == tenants.OTHER or collections.label(f"{query.tenant}/{name}") == collections.OTHER:
        return tenant, collections.OTHER, ""
    version = query.collection_version
    known = versions.label(f"{query.tenant}/{name}/{version}") != versions.OTHER
    return tenant, name, version if known else versions.OTHER


def _failed(problem: Problem | None) -> bool:
    """Whether it is a fault of the platform's, and not of the request."""
    return problem is not None and problem.kind.status >= 500
