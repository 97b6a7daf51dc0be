"""The steps of a pipeline as the HTTP API shows them."""

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Final

from shared.contracts.jobs import JobSpec, PipelineSpec
from shared.contracts.pipelines import PipelineError, PipelineState, StepState, StepStatus, check_pipeline
from sluice.api.jobs import Step

__all__ = ["pipeline_steps"]

REMEMBERED: Final = 256
"""Pipelines whose graph is kept: whoever watches one asks again every second or so."""

Needs = dict[str, tuple[str, ...]]

_known: OrderedDict[bytes, Needs] = OrderedDict()
_lock: Final = Lock()


def pipeline_steps(spec: JobSpec, state: PipelineState | None, *, ended: bool = False) -> list[Step]:
    """Each step in an order in which they may run; before the pipeline's first step all of them wait.

    No step of a pipeline that has `ended` waits: its turn never came.
    """
    if not isinstance(spec, PipelineSpec):
        return []
    needs = _needs(spec)
    states = state.steps if state else {}
    steps = [
        _step(name, states.get(name) or StepState(kind=str(spec.steps[name].job.get("kind", ""))), before)
        for name, before in needs.items()
    ]
    return [_without_turn(step) if ended and step.status == StepStatus.WAITING else step for step in steps]


def _needs(spec: PipelineSpec) -> Needs:
    """The steps that each one waits for, those of its expressions among them."""
    key = hashlib.sha256(spec.model_dump_json().encode()).digest()
    with _lock:
        if key in _known:
            _known.move_to_end(key)
            return _known[key]
    try:
        plan = check_pipeline(spec)
        found = {name: tuple(need for need in plan.order if need in plan.needs[name]) for name in plan.order}
    except PipelineError:  # it came over NATS, and fails as a whole when its turn comes
        found = {name: tuple(need for need in step.needs if need in spec.steps) for name, step in spec.steps.items()}
    with _lock:
        _known[key] = found
        while len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return found


def _step(name: str, state: StepState, needs: tuple[str, ...]) -> Step:
    members = state.model_dump(include=set(Step.model_fields) - {"cached", "needs"})
    return Step(step=name, needs=needs, cached=len(state.cached), **members)


def _without_turn(step: Step) -> Step:
    return step.model_copy(update={"status": "skipped", "reason": step.reason or "the pipeline ended before its turn"})
