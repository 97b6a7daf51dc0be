"""The values that the expressions of a running pipeline may read: parameters and ended steps."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import JsonValue

from shared.contracts.jobs import Job, PipelineSpec
from shared.contracts.pipelines import ExpressionError, StepState, StepStatus, parse, placeholders, resolve
from shared.contracts.pipelines.expressions import as_text
from shared.contracts.pipelines.scope import Names

__all__ = ["Results"]


class Results:
    """The names of one pipeline and their values, as steps end."""

    def __init__(self, job: str, spec: PipelineSpec) -> None:
        self._spec = spec
        self._names = Names(spec)
        self._steps: dict[str, dict[str, Any]] = {}
        self._scope = {
            "parameters": spec.parameters,
            "pipeline": {"id": job, "name": spec.name},
            "steps": self._steps,
        }

    @property
    def scope(self) -> Mapping[str, Any]:
        return {**self._steps, **self._scope}

    def add(self, step: str, state: StepState, jobs: Sequence[Job]) -> None:
        """A step has ended, with these jobs."""
        about: dict[str, Any] = {"state": state.status.value}
        outputs: Mapping[str, Any] = {}
        if state.status is StepStatus.SUCCEEDED:
            each = [_about(job) for job in jobs]
            about |= _listed(each) if state.looped else each[0]
            outputs = _columns(about["outputs"]) if state.looped else about["outputs"]
        self._steps[step] = {**outputs, **about}

    def evaluate(self, text: str) -> JsonValue:
        """The value of an expression. Raises ExpressionError."""
        return parse(text).evaluate(self.scope)

    def why_not(self, condition: str) -> str:
        """A condition that does not hold, and the values that it has read."""
        values = {}
        for reference in parse(condition).references:
            with suppress(ExpressionError):  # what was not needed may not be there
                name = ".".join(reference)
                values[name] = self.evaluate(name)
        said = ", ".join(f"{name} = {as_text(v)}" for name, v in values.items() if not isinstance(v, list | dict))
        return f"not {' '.join(condition.split())}" + (f" ({said})" if said else "")

    def outputs(self) -> dict[str, JsonValue]:
        """The pipeline's outputs. One that reads a step without results is null. Raises ExpressionError."""
        return {name: self._output(template) for name, template in self._spec.outputs.items()}

    def _output(self, template: JsonValue) -> JsonValue:
        try:
            return resolve(template, self.scope)
        except ExpressionError:
            if self._reads_nothing(template):
                return None
            raise

    def _reads_nothing(self, template: JsonValue) -> bool:
        for _, text in placeholders(template):
            for reference in parse(text).references:
                read = self._names.step(reference)
                if read is not None and self._steps[read.step]["state"] != StepStatus.SUCCEEDED:
                    return True
        return False


def _about(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "outputs": dict(job.outputs),
        "artifacts": {file: f"{job.id}/{file}" for file in job.artifacts},
    }


def _listed(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lists in the order of the items."""
    return {member: [one[member] for one in each] for member in ("job", "outputs", "artifacts")}


def _columns(outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each output as a list, with null for an item that has none."""
    names = dict.fromkeys(name for one in outputs for name in one)
    return {name: [one.get(name) for one in outputs] for name in names}
