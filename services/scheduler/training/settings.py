"""Settings of the kind `train`: where training runs, and what it may begin with."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Training", "TrainingSettings", "Workload", "missing_packages"]

PACKAGES: Final = ("torch", "sentence_transformers", "accelerate", "datasets", "peft")


class Training(StrEnum):
    """Where trainings run. auto: as Kubernetes Jobs where there is an image for them, else as processes."""

    AUTO = "auto"
    OFF = "off"
    PROCESS = "process"
    KUBERNETES = "kubernetes"


class Workload(StrEnum):
    """Objects of a cluster that a training may be."""

    TRAIN_JOB = "trainjob"
    RAY_JOB = "rayjob"
    JOB = "job"


class TrainingSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    training: Training = Field(
        Training.AUTO,
        description="off, process, kubernetes; auto: in a cluster where there is an image, else where PyTorch is.",
    )
    training_bases: str = Field(
        "",
        description="Folders that hold models, and names of models, that jobs may begin with, separated by commas.",
    )
    training_room: int = Field(1, ge=1, description="Trainings that run on the scheduler's host at once.")
    training_memory_mb: int | None = Field(
        None, ge=256, description="Memory (MB) of a training on the scheduler's host; none: no bound."
    )
    training_checkpoint_mb: int = Field(8192, ge=1, description="Size (MB) of the largest checkpoint that is stored.")
    training_patience: float = Field(
        300.0, gt=0, description="Seconds without the broker after which a try at training breaks off."
    )
    training_templates: Path | None = Field(
        None,
        description="Folder of prompt templates to train adapters with: the generator's SLUICE_TEMPLATES.",
    )
    training_user: str | None = Field(
        None, description="The broker's user for trainings; none: the scheduler's own user."
    )
    training_password_file: Path | None = Field(
        None, description="File with that user's password, on the scheduler's host."
    )
    training_image: str | None = Field(None, description="Image of trainings on Kubernetes.")
    training_secret: str = Field(
        "sluice-nats-trainer", description="Secret with `user` and `password` for the broker, in the Jobs' namespace."
    )
    training_ca_secret: str = Field(
        "sluice-nats-ca", description="Secret with the broker's `ca.crt`, where SLUICE_NATS_CA is set."
    )
    training_nats_url: str | None = Field(
        None, description="The broker's address as Pods reach it; none: SLUICE_NATS_URL."
    )
    training_workloads: str = Field(
        "trainjob,rayjob,job",
        description="Kinds of objects for trainings, separated by commas; the first that the cluster serves is taken.",
    )
    training_runtime: str = Field("torch-distributed", description="ClusterTrainingRuntime of a TrainJob.")
    training_queue: str | None = Field(None, description="Kueue's LocalQueue for trainings; none: not queued.")

    @property
    def training_workloads_in_order(self) -> tuple[Workload, ...]:
        """The kinds of `training_workloads`."""
        return tuple(Workload(name.strip()) for name in self.training_workloads.split(","))

    @field_validator("training_workloads")
    @classmethod
    def _are_workloads(cls, text: str) -> str:
        if unknown := {name.strip() for name in text.split(",")} - set(Workload):
            raise ValueError(f"{', '.join(sorted(unknown))}: choose among {', '.join(Workload)}")
        return text


def missing_packages() -> list[str]:
    """Packages that training needs and that are not installed here. Looks, and imports nothing."""
    return [name for name in PACKAGES if find_spec(name) is None]
