"""Judging a collection by questions whose answers are known: the questions, what came of them, and the report."""

from services.scheduler.evaluation.evaluate import EvaluateJob

__all__ = ["EvaluateJob"]
