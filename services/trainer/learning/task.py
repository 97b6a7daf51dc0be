"""What there is to learn, and what comes of it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from services.trainer.reporter import Reporter
from services.trainer.settings import World
from services.trainer.state import TrainingState
from shared.contracts.jobs import TrainSpec

__all__ = ["Interrupted", "Learned", "Task"]

RowType = TypeVar("RowType")


class Interrupted(Exception):  # noqa: N818  (nothing has failed)
    """Training was asked to end, and has saved a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[RowType]):
    """One try at a training.

    `base` is a folder or a name, and `adapter` the folder of an adapter of it to go on from. `templates` is a folder of
    prompt templates. `teacher` is the folder of a reranker whose scores are learned; `load_scores` has what an earlier
    try kept of them, and `save_scores` keeps them. `folder` is for what is written on the way. `resumed` is the folder
    of the checkpoint to go on from. `save` stores a folder as the checkpoint of a step. Training ends at the next step
    once `stop` is set.
    """

    spec: TrainSpec
    base: str
    train: list[RowType]
    validation: list[RowType]
    test: list[RowType]
    folder: Path
    resumed: Path | None
    world: World
    reporter: Reporter
    state: TrainingState
    save: Callable[[Path, int], None]
    stop: threading.Event
    adapter: Path | None = None
    templates: Path | None = None
    teacher: Path | None = None
    load_scores: Callable[[], bytes | None] = lambda: None
    save_scores: Callable[[bytes], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A model in its `folder`, and what is known of it. `base` is what the model that it began with is called; empty
    where the order says it."""

    folder: Path
    dimensions: int | None
    metrics: Mapping[str, float]
    base: str = ""
