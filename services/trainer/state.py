"""How far a training is, beside the state of its model and optimizer. It is part of each checkpoint."""

from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel

__all__ = ["STATE", "End", "TrainingState"]

STATE: Final = "sluice_state.json"

RECENT: Final = 50
"""Losses whose mean is the loss of a training."""


class End(StrEnum):
    """Why a training has ended."""

    STEPS = "steps"
    PATIENCE = "patience"
    TIME = "time"


class TrainingState(BaseModel):
    """`best` is the step of the best look, and `since` how many looks found nothing better. `seconds` were trained.
    `best_figure` is what the validation rows are measured by, at the best look, and `before` that of the test rows
    before training.
    """

    step: int = 0
    total: int = 0
    seconds: float = 0.0
    best: int | None = None
    best_score: float = float("-inf")
    best_loss: float = float("inf")
    best_figure: float | None = None
    since: int = 0
    losses: list[float] = []
    before: float | None = None
    end: End | None = None

    def add_loss(self, loss: float) -> None:
        self.losses = [*self.losses, loss][-RECENT:]

    @property
    def loss(self) -> float | None:
        """The mean of the last losses; None before the first."""
        return sum(self.losses) / len(self.losses) if self.losses else None

    def look(self, step: int, score: float, loss: float) -> bool:
        """Take in what a look has found; returns whether it is the best so far."""
        better = (round(score, 6), -loss) > (round(self.best_score, 6), -self.best_loss)
        if better:
            self.best, self.best_score, self.best_loss, self.since = step, score, loss, 0
        else:
            self.since += 1
        return better

    def write(self, folder: Path) -> None:
        (folder / STATE).write_text(self.model_dump_json())

    @classmethod
    def read(cls, folder: Path) -> "TrainingState":
        return cls.model_validate_json((folder / STATE).read_text())
