"""The kind `evaluate`: questions with known answers, against a version of a collection."""

from typing import Literal, Self

from pydantic import Field, model_validator

from shared.contracts.collections import VersionName
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["EvaluateSpec"]


class EvaluateSpec(JobSpec):
    """Ask a set of questions and compare with what was expected.

    `input` names an artifact: JSONL of {"question", "sources": [document names], "answer"?}; `sources` may also be an
    object of names and grades, and {"question", "answerable": false} is one that should be declined. `version` asks
    that version of the collection instead of the live one. `baseline` names the report.json of another evaluation of
    the same questions, to compare with: the output `better` says whether the results are better beyond doubt. With
    `answers` each question goes through the whole `pipeline`, otherwise it is only embedded and searched for: as the
    version is searched, or as `mode` says, vector or text.
    """

    required_action = Action.QUERY
    is_run = True
    main_metrics = ("ndcg_at_10", "recall_at_10", "answer_f1")
    step_outputs = {
        "recall_at_1": "number",
        "recall_at_3": "number",
        "recall_at_5": "number",
        "recall_at_10": "number",
        "mrr": "number",
        "ndcg_at_10": "number",
        "answer_f1": "number",
        "answer_similarity": "number",
        "citation_precision": "number",
        "supported_sentences": "number",
        "false_answered": "number",
        "false_declined": "number",
        "latency_p50_ms": "number",
        "latency_p95_ms": "number",
        "questions": "number",
        "failed": "number",
        "version": "text",
        "better": "boolean",
        "metric": "text",
        "difference": "number",
        "difference_low": "number",
        "difference_high": "number",
    }

    kind: Literal["evaluate"] = "evaluate"
    input: str
    collection: str = "default"
    version: VersionName | None = None
    top_k: int = Field(10, ge=1, le=100)
    mode: Literal["hybrid", "vector", "text"] = "hybrid"
    answers: bool = False
    pipeline: str | None = None
    baseline: str | None = None
    concurrency: int = Field(8, ge=1, le=256)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pipeline is not None and not self.answers:
            raise ValueError("a pipeline is for evaluations with answers")
        if self.mode != "hybrid" and self.answers:
            raise ValueError("with answers the pipeline says how to search: leave out 'mode'")
        return self
