"""The kind `command`: a user's own program."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.jobs.spec import JobSpec, SpecPart
from shared.contracts.keys import Action

__all__ = ["Executor", "Resources", "Toleration", "CommandSpec"]


Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?)?$")]
"""An amount as Kubernetes writes it: "500m", "2", "16Gi"."""


class Executor(StrEnum):
    """Where a command runs: as a process beside the scheduler, or as a Kubernetes Job; auto: that one in a cluster."""

    AUTO = "auto"
    PROCESS = "process"
    KUBERNETES = "kubernetes"


class Resources(SpecPart):
    """What a command needs, as Kubernetes quantities; `gpus` are whole ones of the resource `gpu`."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    gpus: int = Field(0, ge=0, le=64)
    gpu: str = "nvidia.com/gpu"


class Toleration(SpecPart):
    """A taint of nodes that a command may run on nevertheless, as Kubernetes writes it."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: int | None = None  # noqa: N815


class CommandSpec(JobSpec):
    """Run a program: an image and its arguments on Kubernetes, or the arguments as a process of the scheduler's host.

    `completions` above 1 makes an Indexed Job: that many Pods, each with its JOB_COMPLETION_INDEX, `parallelism` at
    once. Up to `backoff_limit` of its Pods may fail and are started again; `ttl_seconds` after its end a Kubernetes Job
    is removed. The members of each JSON object that a command prints behind `::output::` become outputs of the job.
    """

    required_action = Action.SYSTEM

    kind: Literal["command"] = "command"
    image: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    executor: Executor = Executor.AUTO
    resources: Resources = Resources()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    service_account: str | None = None
    completions: int = Field(1, ge=1, le=1000)
    parallelism: int = Field(1, ge=1, le=1000)
    backoff_limit: int = Field(0, ge=0, le=10)
    ttl_seconds: int = Field(3600, ge=60, le=30 * 86400)
