"""The kinds of objects that run a program in a cluster: Kubernetes' own Job, and those of operators for trainings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.scheduler.commands.kubernetes.manifest import CONTAINER
from services.scheduler.commands.kubernetes.views import JobView, Object

__all__ = ["JOB", "KINDS", "RAY_JOB", "TRAIN_JOB", "WorkloadKind", "kind_named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadKind:
    """`pods` is the label by which its Pods name it, and `container` the one in them whose output counts.

    `one_pod` says that it has one such Pod, however many take part.
    """

    name: str
    group: str
    version: str
    plural: str
    pods: str
    container: str
    view: Callable[[Object], JobView] = JobView.of
    one_pod: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


def _ray_view(thing: Object) -> JobView:
    """A RayJob says how it is in other words than a Job."""
    status = thing.get("status") or {}
    deployment, job = status.get("jobDeploymentStatus") or "", status.get("jobStatus") or ""
    failed = deployment in ("Failed", "ValidationFailed") or job in ("FAILED", "STOPPED")
    succeeded = job == "SUCCEEDED"
    return JobView.named(
        thing,
        succeeded=int(succeeded),
        complete=succeeded,
        failure=(status.get("reason") or job, status.get("message") or "") if failed else None,
    )


JOB: Final = WorkloadKind(
    name="job",
    group="batch",
    version="v1",
    plural="jobs",
    pods="batch.kubernetes.io/job-name",
    container=CONTAINER,
)
TRAIN_JOB: Final = WorkloadKind(
    name="trainjob",
    group="trainer.kubeflow.org",
    version="v1alpha1",
    plural="trainjobs",
    pods="jobset.sigs.k8s.io/jobset-name",
    container="node",
)
"""Kubeflow Trainer's, which makes a JobSet of it."""

RAY_JOB: Final = WorkloadKind(
    name="rayjob",
    group="ray.io",
    version="v1",
    plural="rayjobs",
    pods="batch.kubernetes.io/job-name",
    container="ray-job-submitter",
    view=_ray_view,
    one_pod=True,
)
"""KubeRay's, whose cluster goes with it. The Pod that submits prints what the program prints."""

KINDS: Final = (TRAIN_JOB, RAY_JOB, JOB)


def kind_named(name: str) -> WorkloadKind:
    """Raises LookupError."""
    return next((kind for kind in KINDS if kind.name == name), None) or _unknown(name)


def _unknown(name: str) -> WorkloadKind:
    raise LookupError(f"there is no kind of workload '{name}'")
