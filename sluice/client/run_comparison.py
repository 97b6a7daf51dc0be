"""Experiment runs beside each other: what differs in their parameters and versions, and their metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sluice.api.runs import Run, Scalar

__all__ = ["RunComparison", "compare"]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Values by name, one a run in the order of `runs`; None where a run has none.

    `parameters` and `versions` are those that differ, and `same` counts the parameters that do not. `metrics` are all
    of them, first those that say how good a run is; what a run has logged by step is in `Client.run_metrics`.
    """

    runs: tuple[Run, ...]
    parameters: Mapping[str, tuple[Scalar | None, ...]] = field(default_factory=dict)
    same: int = 0
    versions: Mapping[str, tuple[Scalar | None, ...]] = field(default_factory=dict)
    metrics: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def differences(self, metric: str) -> tuple[float | None, ...]:
        """What each run has more of a metric than the first one."""
        first, *_ = values = self.metrics[metric]
        return tuple(None if value is None or first is None else value - first for value in values)


def compare(runs: Sequence[Run]) -> RunComparison:
    """Raises ValueError for fewer than two runs."""
    if len(runs) < 2:
        raise ValueError("name two runs or more to compare")
    parameters = _table([_parameters(run) for run in runs])
    differing = _differing(parameters)
    metrics = _table([run.metrics for run in runs])
    main = [name for run in runs for name in run.main_metrics]
    return RunComparison(
        runs=tuple(runs),
        parameters=differing,
        same=len(parameters) - len(differing),
        versions=_differing(_table([_versions(run) for run in runs])),
        metrics={name: metrics[name] for name in dict.fromkeys([*main, *metrics]) if name in metrics},
    )


def _parameters(run: Run) -> dict[str, Scalar]:
    return {"kind": run.kind, "collection": run.collection, **run.parameters}


def _versions(run: Run) -> dict[str, Scalar]:
    code, data = run.code, run.data
    named: dict[str, Scalar] = {
        "sluice": code.version,
        "revision": code.revision,
        "image": code.image,
        "collection version": data.version,
        "index": data.index,
        "documents": data.documents,
    }
    # The same file under two names is one version of it: what differs is the name, which is a parameter.
    if digests := sorted(set(data.files.values())):
        named["files"] = " ".join(digests)
    return {name: value for name, value in named.items() if value}


def _table(columns: Sequence[Mapping[str, Value]]) -> dict[str, tuple[Value | None, ...]]:
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: tuple(column.get(name) for column in columns) for name in names}


def _differing(table: Mapping[str, tuple[Value, ...]]) -> dict[str, tuple[Value, ...]]:
    return {name: values for name, values in table.items() if any(value != values[0] for value in values)}
