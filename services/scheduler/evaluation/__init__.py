"""Evaluates a collection with questions whose answers are known: questions, results and report."""

from services.scheduler.evaluation.evaluate import EvaluateJob

__all__ = ["EvaluateJob"]
