"""Evaluates a collection with questions whose answers are known: questions, results and report."""

from services.scheduler.evaluation.evaluate import EvaluateJob
from services.scheduler.evaluation.generate_questions import GenerateQuestionsJob

__all__ = ["EvaluateJob", "GenerateQuestionsJob"]
