"""A command as a batch/v1 Job: pure functions. Its Pods meet the Pod Security Standard `restricted`."""

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from services.scheduler.commands.settings import CommandSettings
from shared.contracts.jobs import CommandSpec, Job, Resources
from shared.contracts.problems import Problem, ProblemType

__all__ = ["CONTAINER", "JOB", "TENANT", "job_manifest", "job_name", "selector"]

CONTAINER: Final = "command"

JOB: Final = "sluice.io/job"
TENANT: Final = "sluice.io/tenant"
"""Annotations that hold the exact ids, and labels that hold them as far as labels can."""

USER_LABELS: Final = "labels.sluice.io/"
"""Before a submitter's own labels: they can neither take the place of others nor put a Pod behind a Service."""

LATE: Final = 5.0
"""Seconds after a job's deadline at which Kubernetes ends what no scheduler has ended."""

_BAD: Final = re.compile(r"[^A-Za-z0-9_.-]+")


def job_name(prefix: str, job: Job) -> str:
    """The name that this try at a job has, always the same: what exists is not made twice. At most 54 characters, so
    that what Kubernetes derives from it is valid too."""
    readable = re.sub(r"[^a-z0-9]+", "-", job.id.lower())[:6].strip("-")
    # 130 bits in as few characters as a name allows: nobody makes a job whose name is that of another tenant's.
    digest = base64.b32encode(hashlib.sha256(f"{job.tenant}/{job.id}".encode()).digest()).decode().lower()[:26]
    return "-".join(part for part in (prefix, readable, digest, str(job.attempt)) if part)


def selector(prefix: str) -> str:
    """What chooses the Jobs of this installation."""
    return f"app.kubernetes.io/managed-by=sluice,app.kubernetes.io/instance={prefix}"


def job_manifest(
    name: str,
    job: Job,
    spec: CommandSpec,
    settings: CommandSettings,
    *,
    facts: Mapping[str, str],
    remaining: float | None,
) -> dict[str, Any]:
    """The Job. `facts` go into the environment, under what the spec says. Raises Problem INVALID_REQUEST."""
    if spec.image is None:
        raise Problem(ProblemType.INVALID_REQUEST, "A command that runs on Kubernetes needs an `image`.")
    metadata = {"labels": _labels(job, settings.kubernetes_prefix), "annotations": _annotations(job)}
    body: dict[str, Any] = {
        "backoffLimit": spec.backoff_limit,
        "completions": spec.completions,
        "parallelism": min(spec.parallelism, spec.completions),
        "ttlSecondsAfterFinished": spec.ttl_seconds,
        # A Pod that has to make room, or loses its node, is not the command's failure.
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": {"metadata": metadata, "spec": _pod(spec, settings, dict(facts))},
    }
    if spec.completions > 1:
        body["completionMode"] = "Indexed"
    if remaining is not None:
        body["activeDeadlineSeconds"] = max(1, math.ceil(remaining + LATE))
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, **metadata}, "spec": body}


def _pod(spec: CommandSpec, settings: CommandSettings, facts: dict[str, str]) -> dict[str, Any]:
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if settings.kubernetes_run_as_user is not None:
        security["runAsUser"] = settings.kubernetes_run_as_user
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": spec.service_account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(settings.command_grace_seconds),
        "securityContext": security,
        "containers": [_container(spec, settings, facts)],
    }
    if settings.kubernetes_priority_class is not None:
        pod["priorityClassName"] = settings.kubernetes_priority_class
    if spec.service_account is not None:
        pod["serviceAccountName"] = spec.service_account
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        pod["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in spec.tolerations]
    return pod


def _container(spec: CommandSpec, settings: CommandSettings, facts: dict[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        "env": [{"name": key, "value": value} for key, value in (facts | spec.env).items()],
        "resources": _resources(spec.resources),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if spec.command:
        container["command"] = list(spec.command)
    if spec.args:
        container["args"] = list(spec.args)
    if settings.kubernetes_pull_policy is not None:
        container["imagePullPolicy"] = settings.kubernetes_pull_policy.value
    return container


def _resources(resources: Resources) -> dict[str, dict[str, str]]:
    """What is asked for is also the limit: the node keeps exactly that for it."""
    amounts = {"cpu": resources.cpu, "memory": resources.memory}
    if resources.gpus:
        amounts[resources.gpu] = str(resources.gpus)
    given = {name: amount for name, amount in amounts.items() if amount is not None}
    return {"requests": given, "limits": dict(given)} if given else {}


def _labels(job: Job, prefix: str) -> dict[str, str]:
    own = {
        "app.kubernetes.io/name": "sluice-command",
        "app.kubernetes.io/component": "command",
        "app.kubernetes.io/part-of": "sluice",
        "app.kubernetes.io/managed-by": "sluice",
        "app.kubernetes.io/instance": prefix,
        JOB: _label(job.id),
        TENANT: _label(job.tenant),
    }
    given = {USER_LABELS + _label(key): _label(value) for key, value in job.options.labels.items() if _label(key)}
    return own | given


def _annotations(job: Job) -> dict[str, str]:
    return {JOB: job.id, TENANT: job.tenant, "sluice.io/attempt": str(job.attempt)}


def _label(text: str) -> str:
    """The nearest text that may be a label's value, or the name in its key: at most 63 characters."""
    return _BAD.sub("-", text).strip("-_.")[:63].rstrip("-_.")
