"""The operations of the HTTP API on jobs, their files and schedules. See `calls`."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from sluice.api.datasets import DatasetManifest
from sluice.api.evaluations import EvaluationReport
from sluice.api.jobs import Artifact, AuditEvent, Job, JobState, Schedule, Step
from sluice.client.call import Call
from sluice.client.read import get, listing, model, nothing, pairs, segment, submitted

__all__ = [
    "artifact",
    "cancel_job",
    "create_schedule",
    "dataset",
    "delete_artifact",
    "delete_schedule",
    "evaluation",
    "job",
    "job_artifacts",
    "job_audit",
    "job_events",
    "job_spec",
    "job_steps",
    "jobs",
    "make_dataset",
    "pause_schedule",
    "put_artifact",
    "resume_schedule",
    "retry_job",
    "schedule",
    "schedules",
    "submit_job",
    "trigger_schedule",
    "train",
    "sweep",
    "tune",
]

TRANSFER_TIMEOUT = 300.0


def submit_job(
    spec: Mapping[str, Any],
    *,
    priority: str = "normal",
    labels: Mapping[str, str] | None = None,
    retry: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    by: str = "",
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Submit a job: `spec` has its `kind` and that kind's members; `timeout` is in seconds from now.

    Two calls with one idempotency key are one job.
    """
    settings = {"priority": priority, "labels": dict(labels or {}), "timeout": timeout, "by": by}
    policy = {"retry": dict(retry)} if retry else {}
    return Call(
        method="POST",
        path="/v1/jobs",
        body={"spec": dict(spec), **settings, **policy},
        headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        parse=submitted,
        safe=True,
    )


def train(
    dataset: str,
    target: str = "embedder",
    *,
    base: str = "",
    epochs: float = 1.0,
    steps: int | None = None,
    batch: int = 32,
    learning_rate: float | None = None,
    loss: str = "auto",
    negatives: int = 4,
    patience: int | None = 5,
    seed: int = 0,
    processes: int = 1,
    seconds: float | None = None,
    description: str = "",
    by: str = "",
    idempotency_key: str | None = None,
    **members: Any,
) -> Call[Job]:
    """Submit the training of a model: an `embedder`, a `reranker`, or an `adapter` of a language model.

    `dataset` is the job that made the data set, or the owner of uploaded artifacts of the same names. Training begins
    with `base`, by default the bundled model, and ends after `epochs` or `steps`, after `patience` looks that found
    nothing better, or after `seconds`. `members` are any others of the job, such as the `adapter` to go on from or the
    `teacher` to learn from. The job's outputs name the `model`.
    """
    spec = {
        "kind": "train",
        "target": target,
        "dataset": dataset,
        "base": base,
        "description": description,
        "epochs": epochs,
        "batch": batch,
        "loss": loss,
        "negatives": negatives,
        "patience": patience,
        "seed": seed,
        "processes": processes,
        **({"steps": steps} if steps is not None else {}),
        **({"learning_rate": learning_rate} if learning_rate is not None else {}),
        **({"max_seconds": seconds} if seconds is not None else {}),
        **members,
    }
    return submit_job(spec, by=by, idempotency_key=idempotency_key)


def sweep(
    dataset: str,
    target: str = "embedder",
    *,
    space: Mapping[str, Any],
    trials: int = 12,
    parallel: int = 1,
    seconds: float | None = None,
    seed: int = 0,
    prune: bool = False,
    prune_after: int | None = None,
    by: str = "",
    idempotency_key: str | None = None,
    **members: Any,
) -> Call[Job]:
    """Submit a search for the hyper-parameters of a training; the best model is kept.

    `space` says what is searched: `learning_rate`, `temperature` and `beta` between bounds, `{"low": …, "high": …}`,
    and `steps`, `batch`, `negatives`, `rank`, `loss` and `matryoshka` among lists. `members` are those of the training,
    as for `train`. At most `trials` are made, `parallel` at once, and none begins later than `seconds` after the sweep.
    With `prune`, trials that do badly at their looks end early, once `prune_after` have succeeded, by default 5. The
    job's outputs name the `model`.
    """
    spec = {
        "kind": "sweep",
        "train": {"kind": "train", "target": target, "dataset": dataset, **members},
        "space": dict(space),
        "trials": trials,
        "parallel": parallel,
        "seed": seed,
        **({"prune": True} if prune else {}),
        **({"prune_after": prune_after} if prune_after is not None else {}),
        **({"seconds": seconds} if seconds is not None else {}),
    }
    return submit_job(spec, by=by, idempotency_key=idempotency_key)


def tune(
    collection: str,
    questions: str,
    *,
    trials: int = 40,
    seconds: float | None = None,
    seed: int = 0,
    rerank: bool = True,
    chunks: Sequence[tuple[int, int]] = (),
    version: str | None = None,
    adopt: bool = False,
    by: str = "",
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Submit a search for options of retrieval under which questions find their documents better.

    `questions` names an artifact, as for `put_artifact`: JSON lines of a `question` and its `sources`. At most `trials`
    are made, none after `seconds`. `chunks` are ways to cut the documents that are tried too, as tokens and overlap; a
    version is built for each. The job's outputs say whether the best is `better` on questions that no trial has seen;
    then they name the `version` that has it, which `adopt` makes the live one.
    """
    spec = {
        "kind": "tune",
        "collection": collection,
        "input": questions,
        "trials": trials,
        "seed": seed,
        "rerank": rerank,
        "adopt": adopt,
        **({"seconds": seconds} if seconds is not None else {}),
        **({"chunks": [{"tokens": tokens, "overlap": overlap} for tokens, overlap in chunks]} if chunks else {}),
        **({"version": version} if version is not None else {}),
    }
    return submit_job(spec, by=by, idempotency_key=idempotency_key)


def make_dataset(
    collection: str,
    questions: Sequence[str] = (),
    *,
    feedback: bool = True,
    since: date | str | None = None,
    days: int | None = None,
    version: str | None = None,
    negatives: int = 4,
    relative_margin: float = 0.05,
    test_share: float = 0.3,
    seed: int = 0,
    limit: int = 10_000,
    by: str = "",
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Submit a job that makes training and test data for a collection.

    `questions` name artifacts, as for `put_artifact`: JSON lines of a `question` and its `sources`. With `feedback`,
    what readers said of answers is used too: all of it, or since a day, or of the last `days`. Each question gets up to
    `negatives` passages that look right and are not, whose similarity is below that of the right one by the margin.
    About `test_share` of the documents are for the test data, and in no training data. The job's id names the data set:
    `dataset` reads what is in it.
    """
    spec = {
        "kind": "dataset",
        "collection": collection,
        "questions": list(questions),
        "feedback": feedback,
        "negatives": negatives,
        "relative_margin": relative_margin,
        "test_share": test_share,
        "seed": seed,
        "limit": limit,
        **({"since": str(since)} if since is not None else {}),
        **({"days": days} if days is not None else {}),
        **({"version": version} if version is not None else {}),
    }
    return submit_job(spec, by=by, idempotency_key=idempotency_key)


def jobs(
    *,
    state: JobState | None = None,
    kind: str | None = None,
    collection: str | None = None,
    labels: Mapping[str, str] | None = None,
    parent: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Call[list[Job]]:
    """The latest jobs: those in `state`, of a `kind`, of a `collection`, with all of the `labels`, or the steps of a
    `parent`. `after` is the id of the job to continue behind."""
    value = state.value if state else None
    chosen = pairs(state=value, kind=kind, collection=collection, parent=parent, after=after, limit=limit)
    chosen += tuple(("label", f"{key}={value}") for key, value in (labels or {}).items())
    return get("/v1/jobs", params=chosen, parse=listing(Job, "jobs"))


def job(job_id: str) -> Call[Job]:
    """One job as it stands."""
    return get(_path(job_id), parse=model(Job))


def job_spec(job_id: str) -> Call[dict[str, Any]]:
    """What a job is to do, as it was submitted."""
    return get(f"{_path(job_id)}/spec", parse=model(dict[str, Any]))


def job_events(job_id: str, *, silence: float) -> Call[None]:
    """A job's changes as server-sent events; breaks off after `silence` seconds without one."""
    return get(f"{_path(job_id)}/events", parse=nothing, timeout=silence)


def job_audit(job_id: str) -> Call[list[AuditEvent]]:
    """Every change of a job's state, oldest first: when, by whom and why."""
    return get(f"{_path(job_id)}/audit", parse=listing(AuditEvent, "events"))


def job_steps(job_id: str) -> Call[list[Step]]:
    """Where each step of a pipeline's job stands."""
    return get(f"{_path(job_id)}/steps", parse=listing(Step, "steps"))


def cancel_job(job_id: str, *, reason: str = "", by: str = "") -> Call[Job]:
    """End a job that waits, or ask its worker to end it. One that has ended stays as it is."""
    body = {"reason": reason, "by": by}
    return Call(method="POST", path=f"{_path(job_id)}/cancel", body=body, parse=submitted, safe=True)


def retry_job(job_id: str, *, reason: str = "", by: str = "") -> Call[Job]:
    """Try a failed job again, from its last checkpoint; `SluiceError` with the code `conflict` for any other."""
    return Call(method="POST", path=f"{_path(job_id)}/retry", body={"reason": reason, "by": by}, parse=submitted)


def job_artifacts(job_id: str) -> Call[list[Artifact]]:
    """The files that a job has made."""
    return get(f"{_path(job_id)}/artifacts", parse=listing(Artifact, "artifacts"))


def evaluation(job_id: str) -> Call[EvaluationReport]:
    """The report of a job of the kind `evaluate` that has succeeded."""
    path = _artifact_path(f"{job_id}/report.json")
    return get(path, parse=model(EvaluationReport), timeout=TRANSFER_TIMEOUT)


def dataset(job_id: str) -> Call[DatasetManifest]:
    """What is in the data set that a job of the kind `dataset` has made."""
    return get(_artifact_path(f"{job_id}/dataset.json"), parse=model(DatasetManifest), timeout=TRANSFER_TIMEOUT)


def artifact(name: str) -> Call[bytes]:
    """The bytes of a file, called `<job or folder>/<file>`. `save_artifact` writes a large one to disk instead."""
    return get(_artifact_path(name), parse=_bytes, timeout=TRANSFER_TIMEOUT)


def put_artifact(name: str, content: bytes | Path) -> Call[Artifact]:
    """Upload a file for jobs to read as `<folder>/<file>`, in place of an earlier one of that name."""
    data = content.read_bytes() if isinstance(content, Path) else content
    return Call(
        method="PUT",
        path=_artifact_path(name),
        content=data,
        parse=model(Artifact),
        timeout=TRANSFER_TIMEOUT,
        safe=True,
    )


def delete_artifact(name: str) -> Call[None]:
    """Remove a file; one that is not there is no error."""
    return Call(method="DELETE", path=_artifact_path(name), parse=nothing, safe=True)


def schedules() -> Call[list[Schedule]]:
    """All schedules by name."""
    return get("/v1/schedules", parse=listing(Schedule, "schedules"))


def schedule(name: str) -> Call[Schedule]:
    """One schedule; `SluiceError` with the code `not-found` where there is none."""
    return get(_schedule_path(name), parse=model(Schedule))


def create_schedule(
    name: str,
    spec: Mapping[str, Any],
    *,
    cron: str | None = None,
    every: str | None = None,
    zone: str | None = None,
    missed: str = "skip",
    overlap: str = "allow",
    paused: bool = False,
    priority: str = "normal",
    labels: Mapping[str, str] | None = None,
    retry: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    by: str = "",
) -> Call[Schedule]:
    """Submit a job by `cron` (5 or 6 fields, in the time zone `zone`) or `every` so often ("90s", "1h30m").

    Replaces a schedule of the same name. `missed` says what to do for ticks during downtime: "skip" or
    "run_once"; `overlap` whether a tick counts while the job of the one before still runs: "allow" or "skip".
    """
    body = {
        "spec": dict(spec),
        "cron": cron,
        "every": every,
        "zone": zone,
        "missed": missed,
        "overlap": overlap,
        "paused": paused,
        "priority": priority,
        "labels": dict(labels or {}),
        "timeout": timeout,
        "by": by,
    }
    if retry:
        body["retry"] = dict(retry)
    return Call(method="PUT", path=_schedule_path(name), body=body, parse=model(Schedule), safe=True)


def delete_schedule(name: str) -> Call[None]:
    """Remove a schedule; what it has submitted goes on."""
    return Call(method="DELETE", path=_schedule_path(name), parse=nothing, safe=True)


def pause_schedule(name: str) -> Call[Schedule]:
    """Submit nothing until the schedule is resumed."""
    return Call(method="POST", path=f"{_schedule_path(name)}/pause", parse=model(Schedule), safe=True)


def resume_schedule(name: str) -> Call[Schedule]:
    """Go on from the next tick."""
    return Call(method="POST", path=f"{_schedule_path(name)}/resume", parse=model(Schedule), safe=True)


def trigger_schedule(name: str) -> Call[Job]:
    """Submit a schedule's job now, paused or not."""
    return Call(method="POST", path=f"{_schedule_path(name)}/trigger", parse=submitted)


def _path(job_id: str) -> str:
    return f"/v1/jobs/{segment(job_id)}"


def _artifact_path(name: str) -> str:
    folder, _, file = name.partition("/")
    return f"/v1/artifacts/{segment(folder)}/{segment(file)}"


def _schedule_path(name: str) -> str:
    return f"/v1/schedules/{segment(name)}"


def _bytes(response: httpx.Response) -> bytes:
    return response.content
