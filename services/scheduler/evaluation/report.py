"""The report of an evaluation: its metrics, each question's result, and a picture."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from services.scheduler.evaluation.charts import Chart, draw
from services.scheduler.evaluation.intervals import Interval, interval
from services.scheduler.evaluation.metrics import mean, ndcg_at, percentile, recall_at, reciprocal_rank
from services.scheduler.evaluation.questions import Judged
from shared.contracts.jobs import EvaluateSpec

if TYPE_CHECKING:
    from services.scheduler.evaluation.comparison import Comparison

__all__ = ["NAMES", "as_json", "as_picture", "intervals_of", "metrics_of", "scores_of"]

CUTS: Final = (1, 3, 5, 10)

NAMES: Final = {
    **{f"recall_at_{k}": f"recall@{k}" for k in CUTS},
    "mrr": "MRR",
    "ndcg_at_10": "nDCG@10",
    "answer_f1": "answer F1",
    "answer_similarity": "answer similarity",
    "citation_precision": "citation precision",
    "supported_sentences": "supported sentences",
    "false_declined": "false declined",
    "false_answered": "false answered",
}


def metrics_of(judged: Sequence[Judged], top_k: int) -> dict[str, float]:
    """Flat numbers: the mean of each of `scores_of`, `latency_p50_ms` and `latency_p95_ms`, and how many `questions`
    there were and how many `failed`."""
    metrics: dict[str, float] = {"questions": len(judged), "failed": sum(one.error is not None for one in judged)}
    metrics |= {name: mean(values) for name, values in _columns(judged, top_k).items()}
    if latencies := [one.latency_ms for one in judged if one.latency_ms is not None]:
        metrics["latency_p50_ms"] = percentile(latencies, 50)
        metrics["latency_p95_ms"] = percentile(latencies, 95)
    return {name: round(value, 6) for name, value in metrics.items()}


def intervals_of(judged: Sequence[Judged], top_k: int) -> dict[str, Interval]:
    """The mean of each of `scores_of` with its confidence interval."""
    return {name: interval(values) for name, values in _columns(judged, top_k).items()}


def scores_of(one: Judged, top_k: int) -> dict[str, float]:
    """What one question contributes to each metric. A question without a result counts as one that has found nothing.

    `recall_at_k` for k of 1, 3, 5 and 10 up to `top_k`, `mrr`, `ndcg_at_10` (of top_k 10 or more), where there are
    expected sources; `answer_f1` and `answer_similarity` where there is an expected answer; `citation_precision` of
    answers that cite; `supported_sentences` of answers whose sentences were checked; `false_declined` of answerable
    questions, and `false_answered` of unanswerable ones.
    """
    scores: dict[str, float | None] = {}
    if one.expected:
        scores |= {f"recall_at_{k}": recall_at(k, one.found, one.expected) for k in CUTS if k <= top_k}
        scores["mrr"] = reciprocal_rank(one.found, one.expected)
        if top_k >= 10:
            scores["ndcg_at_10"] = ndcg_at(10, one.found, one.grades or one.expected)
    scores["answer_f1"] = one.answer_f1
    scores["answer_similarity"] = one.answer_similarity
    scores["citation_precision"] = one.citation_precision
    scores["supported_sentences"] = one.supported
    if one.answered is not None:
        name = "false_declined" if one.answerable else "false_answered"
        scores[name] = float(one.answered != one.answerable)
    return {name: score for name, score in scores.items() if score is not None}


def _columns(judged: Sequence[Judged], top_k: int) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for one in judged:
        for name, score in scores_of(one, top_k).items():
            columns.setdefault(name, []).append(score)
    return columns


def as_json(
    spec: EvaluateSpec,
    version: str,
    metrics: dict[str, float],
    judged: Sequence[Judged],
    intervals: Mapping[str, Interval],
    comparison: "Comparison | None",
) -> bytes:
    """An object with what was asked of, the metrics, and the result of each question in the input's order."""
    report: dict[str, Any] = {
        "collection": spec.collection,
        "version": version,
        "top_k": spec.top_k,
        **({"pipeline": spec.pipeline} if spec.answers else {"mode": spec.mode}),
        "metrics": metrics,
        "intervals": {name: {"low": one.low, "high": one.high} for name, one in intervals.items()},
        **({"comparison": comparison.model_dump(mode="json")} if comparison else {}),
        "questions": [one.model_dump(mode="json", exclude_none=True) for one in judged],
    }
    return json.dumps(report, ensure_ascii=False, indent=1).encode()


def as_picture(spec: EvaluateSpec, version: str, metrics: dict[str, float], judged: Sequence[Judged]) -> bytes:
    """An SVG document."""
    failed = f", {metrics['failed']:,.0f} failed" if metrics["failed"] else ""
    how = f"pipeline {spec.pipeline or 'default'}" if spec.answers else f"{spec.mode} search"
    latency = ""
    if "latency_p50_ms" in metrics:
        latency = f"  ·  latency p50 {metrics['latency_p50_ms']:,.0f} ms, p95 {metrics['latency_p95_ms']:,.0f} ms"
    chart = Chart(
        title=f"Evaluation of {spec.collection}, version {version}",
        subtitle=f"{metrics['questions']:,.0f} questions{failed}  ·  {how}{latency}",
        metrics={shown: metrics[name] for name, shown in NAMES.items() if name in metrics},
        ranks=[one.rank for one in judged if one.expected],
        depth=spec.top_k,
    )
    return draw(chart).encode()
