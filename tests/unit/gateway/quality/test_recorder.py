"""What is counted of how good answers are."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.gateway.quality import recorder
from services.gateway.quality.recorder import record_quality
from shared.contracts.collections import table_name
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.telemetry.metrics import BoundedLabel


def ask(collection: str, *, answerable: bool | None = True, problem: ProblemType | None = None, **more: Any) -> None:
    """A question that has ended."""
    passages = [SimpleNamespace(score=0.25, similarity=0.75), SimpleNamespace(score=0.5, similarity=None)]
    query = SimpleNamespace(
        tenant="acme",
        lane=more.get("lane", Lane.INTERACTIVE),
        collection=table_name(collection),
        collection_id=more.get("collection_id", "c1"),
        collection_version=more.get("version", "v1"),
    )
    ended = None if problem else SimpleNamespace(answerable=answerable)
    answer = SimpleNamespace(sources=more.get("sources", passages))
    session: Any = SimpleNamespace(query=query, ended=ended, answer=answer)
    record_quality(session, None if problem is None else Problem(problem, ""))


def value(name: str, collection: str, version: str = "v1", **labels: str) -> float | None:
    labels = {"tenant": "acme", "collection": collection, "version": version, **labels}
    return REGISTRY.get_sample_value(f"sluice_gateway_{name}", labels)


def test_questions_are_counted_by_their_ends() -> None:
    for answerable in (True, None, False):
        ask("ends", answerable=answerable)
    for problem in (ProblemType.STAGE_FAILED, ProblemType.INVALID_FILTER, ProblemType.QUEUE_FULL):
        ask("ends", problem=problem)
    counted = {
        outcome: value("answers_total", "ends", outcome=outcome) for outcome in ("answered", "declined", "failed")
    }
    assert counted == {"answered": 2, "declined": 1, "failed": 1}, "the faults of requests are not counted"


def test_the_best_of_what_was_found_is_observed() -> None:
    ask("best")
    ask("best", sources=[])
    assert (value("best_score_sum", "best"), value("best_score_count", "best")) == (0.5, 1)
    assert (value("question_similarity_sum", "best"), value("question_similarity_count", "best")) == (0.75, 1)


def test_evaluations_batches_and_queries_without_a_collection_are_left_out() -> None:
    ask("left-out", lane=Lane.BATCH)
    ask("left-out", collection_id="")
    assert value("answers_total", "left-out", outcome="answered") is None


def test_only_so_many_collections_and_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "collections", BoundedLabel(1))
    monkeypatch.setattr(recorder, "versions", BoundedLabel(2))
    before = value("answers_total", "other", "", outcome="answered") or 0
    for version in ("v1", "v2", "v3", "v4"):
        ask("named", version=version)
    ask("unnamed")
    assert [value("answers_total", "named", version, outcome="answered") for version in ("v1", "v2", "other")] == [
        1,
        1,
        2,
    ]
    assert value("answers_total", "other", "", outcome="answered") == before + 1
