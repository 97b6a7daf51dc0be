"""A command as a batch/v1 Job: pure functions. Its Pods meet the Pod Security Standard `restricted`."""

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from services.scheduler.commands.program import Program
from services.scheduler.commands.settings import CommandSettings
from shared.contracts.jobs import Job, Resources
from shared.contracts.problems import Problem, ProblemType

__all__ = [
    "CONTAINER",
    "HOST",
    "JOB",
    "TENANT",
    "deadline_of",
    "job_manifest",
    "job_name",
    "metadata_of",
    "pod_of",
    "queued",
    "selector",
    "service_manifest",
]

CONTAINER: Final = "command"

JOB: Final = "sluice.io/job"
TENANT: Final = "sluice.io/tenant"
"""Annotations that hold the exact ids, and labels that hold them as far as labels can."""

USER_LABELS: Final = "labels.sluice.io/"
"""Before a submitter's own labels: they can neither take the place of others nor put a Pod behind a Service."""

HOST: Final = "SLUICE_JOB_HOST"
"""The variable that names the first of Pods that reach each other."""

QUEUE: Final = "kueue.x-k8s.io/queue-name"

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
    program: Program,
    settings: CommandSettings,
    *,
    facts: Mapping[str, str],
    remaining: float | None,
) -> dict[str, Any]:
    """The Job. `facts` go into the environment, under what the program says. Raises Problem INVALID_REQUEST."""
    if program.image is None:
        raise Problem(ProblemType.INVALID_REQUEST, "A command that runs on Kubernetes needs an `image`.")
    metadata = metadata_of(job, program, settings)
    given = dict(facts)
    if program.connected:
        given[HOST] = f"{name}-0.{name}"
    pod = pod_of(program, settings, given)
    if program.connected:
        pod["subdomain"] = name
    body: dict[str, Any] = {
        "backoffLimit": program.backoff_limit,
        "completions": program.completions,
        "parallelism": min(program.parallelism, program.completions),
        "ttlSecondsAfterFinished": program.ttl_seconds,
        # A Pod that has to make room, or loses its node, is not the command's failure.
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": {"metadata": metadata, "spec": pod},
    }
    if program.completions > 1:
        body["completionMode"] = "Indexed"
    if (deadline := deadline_of(remaining)) is not None:
        body["activeDeadlineSeconds"] = deadline
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **queued(metadata, program)},
        "spec": body,
    }


def service_manifest(job: Mapping[str, Any]) -> dict[str, Any]:
    """What gives the Pods of a Job their names. It goes with the Job."""
    metadata = job["metadata"]
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": metadata["name"], "labels": metadata["labels"], "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": metadata["name"]},
        },
    }


def metadata_of(job: Job, program: Program, settings: CommandSettings) -> dict[str, Any]:
    """Labels and annotations that say whose it is."""
    return {
        "labels": _labels(job, program.component, settings.kubernetes_prefix),
        "annotations": _annotations(job),
    }


def queued(metadata: dict[str, Any], program: Program) -> dict[str, Any]:
    """With the label by which Kueue admits all Pods together."""
    if program.queue is None:
        return metadata
    return {**metadata, "labels": {**metadata["labels"], QUEUE: program.queue}}


def deadline_of(remaining: float | None) -> int | None:
    """Seconds after which Kubernetes ends it."""
    return None if remaining is None else max(1, math.ceil(remaining + LATE))


def pod_of(program: Program, settings: CommandSettings, facts: dict[str, str]) -> dict[str, Any]:
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if settings.kubernetes_run_as_user is not None:
        security["runAsUser"] = settings.kubernetes_run_as_user
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": program.service_account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(settings.command_grace_seconds),
        "securityContext": security,
        "containers": [_container(program, settings, facts)],
    }
    if settings.kubernetes_priority_class is not None:
        pod["priorityClassName"] = settings.kubernetes_priority_class
    if program.secrets:
        pod["volumes"] = [
            {"name": f"secret-{number}", "secret": {"secretName": files.secret}}
            for number, files in enumerate(program.secrets)
        ]
    if program.service_account is not None:
        pod["serviceAccountName"] = program.service_account
    if program.node_selector:
        pod["nodeSelector"] = dict(program.node_selector)
    if program.tolerations:
        pod["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in program.tolerations]
    return pod


def _container(program: Program, settings: CommandSettings, facts: dict[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": program.image,
        "env": [{"name": key, "value": value} for key, value in (facts | dict(program.env)).items()],
        "resources": _resources(program.resources),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if program.command:
        container["command"] = list(program.command)
    if program.args:
        container["args"] = list(program.args)
    if program.secrets:
        container["volumeMounts"] = [
            {"name": f"secret-{number}", "mountPath": files.folder, "readOnly": True}
            for number, files in enumerate(program.secrets)
        ]
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


def _labels(job: Job, component: str, prefix: str) -> dict[str, str]:
    own = {
        "app.kubernetes.io/name": f"sluice-{component}",
        "app.kubernetes.io/component": component,
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
