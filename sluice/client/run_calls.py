"""The operations of the HTTP API on experiment runs. See `calls`."""

from collections.abc import Mapping, Sequence

from sluice.api.jobs import JobState
from sluice.api.runs import MetricSeries, Run
from sluice.client.call import Call
from sluice.client.read import get, listing, model, pairs, segment

__all__ = ["run", "run_metrics", "runs"]


def runs(
    *,
    state: JobState | None = None,
    kind: str | None = None,
    collection: str | None = None,
    labels: Mapping[str, str] | None = None,
    parent: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Call[list[Run]]:
    """The latest experiment runs: jobs that are compared by their parameters and metrics, and pipelines. They are
    chosen as by `jobs`, at most 200 at once; `after` is the id of the run to continue behind."""
    value = state.value if state else None
    chosen = pairs(state=value, kind=kind, collection=collection, parent=parent, after=after, limit=limit)
    chosen += tuple(("label", f"{key}={value}") for key, value in (labels or {}).items())
    return get("/v1/runs", params=chosen, parse=listing(Run, "runs"))


def run(run_id: str) -> Call[Run]:
    """One experiment run as it stands; `SluiceError` with the code `not-found` for a job that is none."""
    return get(f"/v1/runs/{segment(run_id)}", parse=model(Run))


def run_metrics(run_id: str, names: Sequence[str] = ()) -> Call[list[MetricSeries]]:
    """The metrics that a run has logged by step: all of them, or those of these names."""
    params = tuple(("name", name) for name in names)
    return get(f"/v1/runs/{segment(run_id)}/metrics", params=params, parse=listing(MetricSeries, "metrics"))
