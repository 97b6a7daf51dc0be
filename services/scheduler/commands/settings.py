"""Settings of the kind `command`: where commands run, and what bounds them."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["CommandSettings", "LocalCommands", "PullPolicy", "in_cluster"]

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class LocalCommands(StrEnum):
    """Whether commands may run on the scheduler's own host."""

    NONE = "none"
    PROCESS = "process"


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class CommandSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    commands: LocalCommands = Field(
        LocalCommands.NONE, description="`process` lets whoever submits jobs run any program as the scheduler's user."
    )
    command_grace_seconds: float = Field(10.0, ge=0, description="Seconds from SIGTERM to SIGKILL of a command.")
    command_log_mb: int = Field(10, ge=1, le=1024, description="The last part of a command's output that is kept (MB).")
    kubernetes: bool | None = Field(
        None, description="Run commands as Kubernetes Jobs; unset: where the scheduler itself runs in a cluster."
    )
    kubernetes_config: Path | None = Field(
        None, description="A kubeconfig file; none: the cluster's own account, elsewhere what kubectl would take."
    )
    kubernetes_context: str | None = Field(None, description="Context of the kubeconfig; none: its current one.")
    kubernetes_namespace: str | None = Field(None, description="Namespace of the Jobs; none: the context's or Pod's.")
    kubernetes_prefix: str = Field(
        "sluice",
        pattern=r"^[a-z]([a-z0-9-]{0,14}[a-z0-9])?$",
        description="Start of the Jobs' names. Installations that share a namespace need different ones.",
    )
    kubernetes_pull_policy: PullPolicy | None = Field(None, description="When images are pulled; none: the cluster's.")
    kubernetes_priority_class: str | None = Field(
        None, description="PriorityClass of the Jobs' Pods, which must exist; none: the cluster's default."
    )
    kubernetes_run_as_user: int | None = Field(
        None, ge=1, description="User id in every container; none: the image's user, who must not be root."
    )
    kubernetes_patience: float = Field(
        300.0, ge=0, description="Seconds without the Kubernetes API after which a job goes back to be tried again."
    )
    kubernetes_start_seconds: float = Field(
        900.0, ge=0, description="Seconds after which a command fails whose Pod, image or container cannot be had."
    )
    kubernetes_node_seconds: float = Field(
        86400.0, ge=0, description="Seconds after which a command fails whose Pod no node takes."
    )

    @property
    def kubernetes_enabled(self) -> bool:
        return in_cluster() if self.kubernetes is None else self.kubernetes


def in_cluster() -> bool:
    """Whether this process runs in a Pod that has a service account."""
    return TOKEN.exists()
