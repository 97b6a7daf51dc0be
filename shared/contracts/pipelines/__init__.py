"""Pipelines as they are written: expressions, placeholders, and what can be checked before a pipeline runs."""

from shared.contracts.pipelines.check import MOST_ITEMS, STEP_KINDS, PipelineError, Plan, check_pipeline, condition
from shared.contracts.pipelines.expressions import Expression, ExpressionError, Scope, parse
from shared.contracts.pipelines.state import PipelineState, StepState, StepStatus
from shared.contracts.pipelines.steps import step_spec
from shared.contracts.pipelines.templates import placeholders, resolve

__all__ = [
    "MOST_ITEMS",
    "STEP_KINDS",
    "Expression",
    "ExpressionError",
    "PipelineError",
    "PipelineState",
    "Plan",
    "Scope",
    "StepState",
    "StepStatus",
    "check_pipeline",
    "condition",
    "parse",
    "placeholders",
    "resolve",
    "step_spec",
]
