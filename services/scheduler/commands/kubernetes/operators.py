"""A program as the object of an operator for trainings: Kubeflow Trainer's TrainJob, KubeRay's RayJob. Pure functions.

Fields follow the operators' published schemas, trainer.kubeflow.org/v1alpha1 and ray.io/v1.
"""

import shlex
from collections.abc import Mapping
from typing import Any, Final

from services.scheduler.commands.kubernetes.manifest import deadline_of, metadata_of, pod_of, queued
from services.scheduler.commands.program import Program
from services.scheduler.commands.settings import CommandSettings
from shared.contracts.jobs import Job
from shared.contracts.problems import Problem, ProblemType

__all__ = ["ray_job_manifest", "train_job_manifest"]

NODE: Final = "node"
"""What the replicated Job of a runtime for trainings is called, and the container in its Pods."""

MANAGER: Final = "sluice.io/scheduler"

PATCHED: Final = ("nodeSelector", "tolerations", "volumes", "securityContext", "terminationGracePeriodSeconds")
"""What of a Pod a TrainJob may change of its runtime's."""

GROUP: Final = "trainers"


def train_job_manifest(
    name: str,
    job: Job,
    program: Program,
    settings: CommandSettings,
    *,
    facts: Mapping[str, str],
    remaining: float | None,
) -> dict[str, Any]:
    """The TrainJob. Its runtime says how the processes find each other. Raises Problem INVALID_REQUEST."""
    image = _image(program)
    pod = pod_of(program, settings, dict(facts))
    (container,) = pod["containers"]
    patch = {key: pod[key] for key in PATCHED if key in pod}
    patched: dict[str, Any] = {"name": NODE, "securityContext": container["securityContext"]}
    if "volumeMounts" in container:
        patched["volumeMounts"] = container["volumeMounts"]
    metadata = metadata_of(job, program, settings)
    template: dict[str, Any] = {"metadata": metadata, "spec": {**patch, "containers": [patched]}}
    trainer: dict[str, Any] = {
        "image": image,
        "command": list(program.command),
        "env": container["env"],
        "numNodes": program.completions,
        "numProcPerNode": 1,
    }
    if program.args:
        trainer["args"] = list(program.args)
    if container["resources"]:
        trainer["resourcesPerNode"] = container["resources"]
    nodes: dict[str, Any] = {"name": NODE, "template": {"spec": {"template": template}}}
    runtime = {"template": {"spec": {"replicatedJobs": [nodes]}}}
    spec: dict[str, Any] = {
        "runtimeRef": {"name": program.runtime},
        "trainer": trainer,
        "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": runtime}],
    }
    if (deadline := deadline_of(remaining)) is not None:
        spec["activeDeadlineSeconds"] = deadline
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, **queued(metadata, program)},
        "spec": spec,
    }


def ray_job_manifest(
    name: str,
    job: Job,
    program: Program,
    settings: CommandSettings,
    *,
    facts: Mapping[str, str],
    remaining: float | None,
) -> dict[str, Any]:
    """The RayJob, with a cluster of its own: its head takes part, so there is one worker fewer than processes.

    Raises Problem INVALID_REQUEST.
    """
    _image(program)
    metadata = metadata_of(job, program, settings)
    spec: dict[str, Any] = {
        "entrypoint": program.ray_entrypoint or shlex.join([*program.command, *program.args]),
        "submissionMode": "K8sJobMode",
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": program.ttl_seconds,
        "rayClusterSpec": {
            "headGroupSpec": {
                "rayStartParams": {"dashboard-host": "0.0.0.0"},  # noqa: S104  (within the Pod's network)
                "template": {"metadata": metadata, "spec": _ray_pod(program, settings, facts, "ray-head")},
            }
        },
    }
    if program.completions > 1:
        count = program.completions - 1
        spec["rayClusterSpec"]["workerGroupSpecs"] = [
            {
                "groupName": GROUP,
                "replicas": count,
                "minReplicas": count,
                "maxReplicas": count,
                "rayStartParams": {},
                "template": {"metadata": metadata, "spec": _ray_pod(program, settings, facts, "ray-worker")},
            }
        ]
    if (deadline := deadline_of(remaining)) is not None:
        spec["activeDeadlineSeconds"] = deadline
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name, **queued(metadata, program)},
        "spec": spec,
    }


def _ray_pod(program: Program, settings: CommandSettings, facts: Mapping[str, str], container: str) -> dict[str, Any]:
    """A Pod of Ray's: it starts what it needs itself, and the program comes to it."""
    pod = pod_of(program, settings, dict(facts))
    (only,) = pod["containers"]
    kept = {key: value for key, value in only.items() if key not in ("command", "args")}
    pod["containers"] = [{**kept, "name": container}]
    del pod["restartPolicy"]  # Ray's operator decides
    return pod


def _image(program: Program) -> str:
    if program.image is None:
        raise Problem(ProblemType.INVALID_REQUEST, "A program that runs on Kubernetes needs an `image`.")
    return program.image
