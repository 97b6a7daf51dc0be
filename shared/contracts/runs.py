"""Experiment runs: jobs that are compared with each other by their parameters and metrics."""

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

from shared.contracts.jobs import KINDS, CommandSpec, Job, JobSpec, PipelineSpec

__all__ = ["HIDDEN", "RUN_KINDS", "main_metrics", "parameters_of", "run_metrics", "without_secrets"]

RUN_KINDS: Final = frozenset(kind for kind, spec in KINDS.items() if spec.is_run)

MOST_PARAMETERS: Final = 300
LONGEST: Final = 1_000
"""Characters of a parameter that is a text."""

HIDDEN: Final = "***"
"""In place of the value of an environment variable."""

Parameter = str | int | float | bool


def parameters_of(spec: JobSpec) -> dict[str, Parameter]:
    """The members of a spec by their paths, such as `chunks.0.tokens`: scalars, without those that are null, and
    without secrets. Of very many the first, of long texts the beginning."""
    found: dict[str, Parameter] = {}
    for name, value in _flat(without_secrets(spec).model_dump(mode="json", exclude={"kind"})):
        if len(found) == MOST_PARAMETERS:
            break
        found[name] = value[:LONGEST] if isinstance(value, str) else value
    return found


def run_metrics(outputs: Mapping[str, JsonValue]) -> dict[str, float]:
    """The outputs that are numbers."""
    return {
        name: float(value)
        for name, value in outputs.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def main_metrics(job: Job) -> tuple[str, ...]:
    """The outputs that say how good a run is; for kinds that name none, its first numbers."""
    spec = KINDS.get(job.kind)
    named = tuple(name for name in (spec.main_metrics if spec else ()) if name in job.outputs)
    return named or tuple(run_metrics(job.outputs))[:3]


def without_secrets(spec: JobSpec) -> JobSpec:
    """The spec without the values of commands' environments, which often are secrets."""
    match spec:
        case CommandSpec():
            return spec.model_copy(update={"env": dict.fromkeys(spec.env, HIDDEN)})
        case PipelineSpec():
            steps = {
                name: step.model_copy(update={"job": {**step.job, "env": _hidden(step.job["env"])}})
                if "env" in step.job
                else step
                for name, step in spec.steps.items()
            }
            return spec.model_copy(update={"steps": steps})
        case _:
            return spec


def _hidden(env: JsonValue) -> JsonValue:
    return dict.fromkeys(env, HIDDEN) if isinstance(env, dict) else HIDDEN


def _flat(value: JsonValue, path: str = "") -> Iterator[tuple[str, Parameter]]:
    match value:
        case dict():
            for name, member in value.items():
                yield from _flat(member, f"{path}.{name}" if path else name)
        case list():
            for index, item in enumerate(value):
                yield from _flat(item, f"{path}.{index}")
        case str() | bool() | int() | float():
            yield path, value
        case _:
            return
