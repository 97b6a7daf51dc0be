"""The report of an evaluation: its metrics, each question's result, and a picture."""

import json
from collections.abc import Sequence
from typing import Any, Final

from services.scheduler.evaluation.charts import Chart, draw
from services.scheduler.evaluation.metrics import mean, ndcg_at, percentile, recall_at, reciprocal_rank
from services.scheduler.evaluation.questions import Judged
from shared.contracts.jobs import EvaluateSpec

__all__ = ["as_json", "as_picture", "metrics_of"]

CUTS: Final = (1, 3, 5, 10)

NAMES: Final = {
    **{f"recall_at_{k}": f"recall@{k}" for k in CUTS},
    "mrr": "MRR",
    "ndcg_at_10": "nDCG@10",
    "answer_f1": "answer F1",
    "citation_precision": "citation precision",
}


def metrics_of(judged: Sequence[Judged], top_k: int) -> dict[str, float]:
    """Flat numbers. A question without a result counts as one that has found nothing.

    `recall_at_k` for k of 1, 3, 5 and 10 up to `top_k`, `mrr`, `ndcg_at_10` (of top_k 10 or more), over the questions
    with expected sources; `answer_f1` over those with expected answers; `citation_precision` over the answers that
    cite; `latency_p50_ms` and `latency_p95_ms`; `questions` and `failed` count.
    """
    metrics: dict[str, float] = {"questions": len(judged), "failed": sum(one.error is not None for one in judged)}
    sourced = [one for one in judged if one.expected]
    if sourced:
        for k in CUTS:
            if k <= top_k:
                metrics[f"recall_at_{k}"] = mean([recall_at(k, one.found, one.expected) for one in sourced])
        metrics["mrr"] = mean([reciprocal_rank(one.found, one.expected) for one in sourced])
        if top_k >= 10:
            metrics["ndcg_at_10"] = mean([ndcg_at(10, one.found, one.expected) for one in sourced])
    if overlaps := [one.answer_f1 for one in judged if one.answer_f1 is not None]:
        metrics["answer_f1"] = mean(overlaps)
    if cited := [one.citation_precision for one in judged if one.citation_precision is not None]:
        metrics["citation_precision"] = mean(cited)
    if latencies := [one.latency_ms for one in judged if one.latency_ms is not None]:
        metrics["latency_p50_ms"] = percentile(latencies, 50)
        metrics["latency_p95_ms"] = percentile(latencies, 95)
    return {name: round(value, 6) for name, value in metrics.items()}


def as_json(spec: EvaluateSpec, version: str, metrics: dict[str, float], judged: Sequence[Judged]) -> bytes:
    """An object with what was asked of, the metrics, and the result of each question in the input's order."""
    report: dict[str, Any] = {
        "collection": spec.collection,
        "version": version,
        "top_k": spec.top_k,
        **({"pipeline": spec.pipeline} if spec.answers else {"mode": spec.mode}),
        "metrics": metrics,
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
