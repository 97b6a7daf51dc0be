"""Experiment runs as the HTTP API shows them."""

import json
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from shared.contracts.jobs import Job, JobSpec
from shared.contracts.metrics import MetricHistory
from shared.contracts.runs import main_metrics, parameters_of, run_metrics
from sluice.api.jobs import JobState
from sluice.api.runs import CodeVersion, DataVersion, MetricSeries, Run, Scalar

__all__ = ["as_run", "as_series"]

LONGEST: Final = 1_000
"""Characters of an output."""


def as_run(job: Job, spec: JobSpec | None) -> Run:
    """A job as a run; one whose spec is no longer known has no parameters."""
    facts, options = job.facts, job.options
    metrics = run_metrics(job.outputs)
    return Run(
        id=job.id,
        kind=job.kind,
        name=job.name,
        collection=job.collection,
        state=JobState(job.state),
        created_at=_moment(job.created_at),
        started_at=_moment(job.started_at),
        finished_at=_moment(job.finished_at),
        attempt=job.attempt,
        by=options.by,
        parent=options.parent,
        schedule=options.schedule,
        labels=options.labels,
        parameters={} if spec is None else parameters_of(spec),
        metrics=metrics,
        main_metrics=main_metrics(job),
        outputs={name: _scalar(value) for name, value in job.outputs.items() if name not in metrics},
        artifacts=job.artifacts,
        code=CodeVersion.model_validate(facts.code.model_dump()) if facts else CodeVersion(),
        data=DataVersion.model_validate(facts.data.model_dump()) if facts else DataVersion(),
        trace_id=facts.trace if facts else "",
        error=f"{job.error.title}: {job.error.detail}" if job.error else "",
    )


def as_series(name: str, history: MetricHistory) -> MetricSeries:
    points = history.points(name)
    return MetricSeries(
        name=name,
        steps=tuple(point.step for point in points),
        values=tuple(point.value for point in points),
        times=tuple(datetime.fromtimestamp(point.at, UTC) for point in points),
    )


def _scalar(value: JsonValue) -> Scalar:
    if isinstance(value, bool):
        return value
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:LONGEST]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
