"""An experiment run in MLflow's terms."""

import re
from collections.abc import Mapping
from typing import Final

from services.scheduler.tracking.mlflow_client import Entry
from services.scheduler.tracking.settings import TrackingSettings
from shared.contracts.jobs import Job, JobSpec, JobState
from shared.contracts.metrics import MetricHistory
from shared.contracts.runs import parameters_of, run_metrics

__all__ = ["JOB_TAG", "STATUS", "experiment_name", "metrics_of", "outputs_of", "params_of", "run_name", "tags_of"]

JOB_TAG: Final = "sluice.job"

STATUS: Final = {
    JobState.QUEUED: "SCHEDULED",
    JobState.RUNNING: "RUNNING",
    JobState.SUCCEEDED: "FINISHED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
}

LONGEST_KEY: Final = 250
LONGEST_PARAM: Final = 500
"""Characters, which servers of all versions take."""

LONGEST_TAG: Final = 4_000
FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9_\-. /]")


def experiment_name(settings: TrackingSettings, job: Job) -> str:
    what = job.collection or job.name or job.kind
    return settings.mlflow_experiment.format(tenant=job.tenant, collection=what, kind=job.kind)


def run_name(job: Job) -> str:
    return f"{job.name or job.kind} {job.id[-6:]}"


def params_of(spec: JobSpec) -> list[Entry]:
    named = {_key(name): str(value)[:LONGEST_PARAM] for name, value in parameters_of(spec).items()}
    return [{"key": name, "value": value} for name, value in named.items()]


def tags_of(job: Job, settings: TrackingSettings, parent: str | None) -> list[Entry]:
    """`parent` is the id of the pipeline's run."""
    options, facts = job.options, job.facts
    named: dict[str, str] = {
        JOB_TAG: job.id,
        "sluice.tenant": job.tenant,
        "sluice.kind": job.kind,
        "sluice.collection": job.collection,
        "sluice.parent": options.parent or "",
        "sluice.schedule": options.schedule or "",
        "sluice.error": f"{job.error.title}: {job.error.detail}" if job.error else "",
        "mlflow.user": options.by,
        "mlflow.parentRunId": parent or "",
        "mlflow.source.name": f"sluice {job.kind}",
        "mlflow.source.type": "JOB",
        **{f"sluice.label.{_key(name)}": value for name, value in options.labels.items()},
        **{
            f"sluice.output.{_key(name)}": value
            for name, value in job.outputs.items()
            if isinstance(value, str) and name not in run_metrics(job.outputs)
        },
    }
    if facts is not None:
        code, data = facts.code, facts.data
        named |= {
            "sluice.version": code.version,
            "sluice.image": code.image,
            "mlflow.source.git.commit": code.revision,
            "sluice.data.version": data.version,
            "sluice.data.index": data.index,
            "sluice.data.documents": str(data.documents or ""),
            "sluice.data.files": " ".join(f"{name}={digest}" for name, digest in data.files.items()),
            "sluice.trace": facts.trace,
        }
    named["mlflow.note.content"] = _note(job, settings)
    return [{"key": name[:LONGEST_KEY], "value": value[:LONGEST_TAG]} for name, value in named.items() if value]


def _note(job: Job, settings: TrackingSettings) -> str:
    """Links for people, as MLflow shows them above a run."""
    links = []
    if settings.mlflow_run_url:
        links.append(f"[Run {job.id} in Sluice]({settings.mlflow_run_url.format(run=job.id)})")
    if settings.mlflow_trace_url and job.facts is not None and job.facts.trace:
        links.append(f"[Trace]({settings.mlflow_trace_url.format(trace=job.facts.trace)})")
    if job.artifacts:
        links.append(f"Files: `sluice jobs artifacts {job.id}`: {', '.join(job.artifacts)}")
    return "\n\n".join(links)


def metrics_of(history: MetricHistory, known: Mapping[str, int]) -> list[Entry]:
    """What was logged after the steps that are known; values that are not finite are left out."""
    return [
        _metric(name, point.value, point.at, point.step)
        for name in history.names
        for point in history.points(name)
        if point.value is not None and point.step > known.get(name, -1)
    ]


def outputs_of(job: Job, history: MetricHistory) -> list[Entry]:
    """The outputs as metrics, each at the last step of what was logged under its name."""
    at = job.finished_at or job.created_at
    steps = {name: points[-1].step for name in history.names if (points := history.points(name))}
    return [_metric(name, value, at, steps.get(name, 0)) for name, value in run_metrics(job.outputs).items()]


def _metric(name: str, value: float, at: float, step: int) -> Entry:
    return {"key": _key(name), "value": value, "timestamp": round(at * 1e3), "step": step}


def _key(name: str) -> str:
    return FORBIDDEN.sub("_", name)[:LONGEST_KEY]
