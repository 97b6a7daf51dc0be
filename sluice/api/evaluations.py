"""What an evaluation reports, as typed, immutable models."""

from pydantic import Field

from sluice.api.base import Schema

__all__ = ["ChangedQuestion", "Comparison", "EvaluatedQuestion", "EvaluationReport", "MetricInterval"]


class MetricInterval(Schema):
    """The bounds of a 95 % confidence interval; `mean` is there for a difference."""

    low: float
    high: float
    mean: float | None = None


class EvaluatedQuestion(Schema):
    """A question with its result; `rank` is that of the first relevant passage, None where none was found."""

    question: str
    expected: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    answerable: bool = True
    rank: int | None = None
    latency_ms: float | None = None
    answer: str | None = None
    expected_answer: str | None = None
    answered: bool | None = None
    confidence: float | None = None
    error: str | None = None


class ChangedQuestion(Schema):
    """A question whose result differs from the baseline's; a positive `change` is for the better."""

    question: str
    change: float = 0.0
    rank: int | None = None
    rank_before: int | None = None


class Comparison(Schema):
    """The mean differences from the `baseline`, over the `questions` that both have."""

    baseline: str = ""
    questions: int = 0
    differences: dict[str, MetricInterval] = Field(default_factory=dict)
    better: tuple[ChangedQuestion, ...] = ()
    worse: tuple[ChangedQuestion, ...] = ()


class EvaluationReport(Schema):
    """The metrics of a collection's version with their confidence intervals, and each question's result.

    `mode` is how it was searched; it is None where answers were judged, as `pipeline` is where they were not.
    """

    collection: str = ""
    version: str = ""
    top_k: int = 0
    mode: str | None = None
    pipeline: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    intervals: dict[str, MetricInterval] = Field(default_factory=dict)
    comparison: Comparison | None = None
    questions: tuple[EvaluatedQuestion, ...] = ()
