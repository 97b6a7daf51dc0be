"""What an executor runs: a user's command, or a program of Sluice's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from shared.contracts.jobs import CommandSpec, Resources, Toleration

__all__ = ["Program", "SecretFiles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFiles:
    """A Secret of the Jobs' namespace, as files in a folder of the container."""

    secret: str
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program, and what it needs to run. The members of these names are as in `CommandSpec`.

    `component` is what it is in the names and labels of a cluster. `secrets` are mounted in its Pods; a process finds
    such files where the scheduler does. With `connected`, the Pods of a Job reach each other by name, and
    the variable SLUICE_JOB_HOST is what the first one is called.

    `workloads` are the kinds of objects that may run it in a cluster, the first that the cluster serves: `trainjob`
    by `runtime`, `rayjob` by `ray_entrypoint`, `job`. `queue` is the LocalQueue of Kueue that admits it.
    """

    component: str = "command"
    image: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    service_account: str | None = None
    completions: int = 1
    parallelism: int = 1
    backoff_limit: int = 0
    ttl_seconds: int = 3600
    secrets: tuple[SecretFiles, ...] = ()
    connected: bool = False
    workloads: tuple[str, ...] = ("job",)
    runtime: str = ""
    ray_entrypoint: str = ""
    queue: str | None = None

    @classmethod
    def of(cls, spec: CommandSpec) -> Self:
        """A user's command."""
        return cls(
            image=spec.image,
            command=spec.command,
            args=spec.args,
            env=spec.env,
            resources=spec.resources,
            node_selector=spec.node_selector,
            tolerations=spec.tolerations,
            service_account=spec.service_account,
            completions=spec.completions,
            parallelism=spec.parallelism,
            backoff_limit=spec.backoff_limit,
            ttl_seconds=spec.ttl_seconds,
        )
