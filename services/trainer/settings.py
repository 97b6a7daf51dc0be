"""Settings of the trainer. The scheduler sets them for the process or the Pod."""

import os
import tempfile
from pathlib import Path
from typing import Self

from pydantic import Field

from shared.contracts.training import TrainingOrder
from shared.nats.settings import BrokerSettings

__all__ = ["TrainerSettings", "World"]


class TrainerSettings(BrokerSettings):
    training_order: str = Field("", description="What to do, as JSON: the scheduler writes it.")
    training_memory_mb: int | None = Field(
        None, ge=1, description="Memory (MB) that all processes of this machine may take; none: no bound."
    )
    training_checkpoint_mb: int = Field(8192, ge=1, description="Size (MB) of the largest checkpoint that is stored.")
    training_patience: float = Field(
        300.0, gt=0, description="Seconds without the broker after which a try at training breaks off."
    )

    training_templates: Path | None = Field(
        None, description="Folder of prompt templates that adapters are trained with."
    )

    @property
    def order(self) -> TrainingOrder:
        """Raises pydantic.ValidationError."""
        return TrainingOrder.model_validate_json(self.training_order or "{}")


class World:
    """Which of the processes this is, as torchrun says in the environment."""

    def __init__(self, *, rank: int, size: int, local_size: int, run: str = "") -> None:
        self.rank = rank
        self.size = size
        self.local_size = local_size
        self._run = run

    @property
    def leads(self) -> bool:
        """The one process that reports, saves and publishes."""
        return self.rank == 0

    def shared_folder(self, own: Path) -> Path:
        """Where all processes of this machine write to: `own` where there is one process."""
        return own if self.local_size == 1 else Path(tempfile.gettempdir()) / f"sluice-training-{self._run}"

    @classmethod
    def of_environment(cls) -> Self:
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            size=int(os.environ.get("WORLD_SIZE", "1")),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            run=os.environ.get("TORCHELASTIC_RUN_ID", ""),
        )
