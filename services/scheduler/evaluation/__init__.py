"""Judging a collection by questions whose answers are known: the questions, what came of them, and the report."""

from services.scheduler.evaluation.job import EvaluateJob

__all__ = ["EvaluateJob"]
