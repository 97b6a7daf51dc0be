"""Trainings in this process: what the trainer does between its data set and its model."""

import hashlib
import importlib
import shutil
import threading
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from services.trainer.data.rows import Row, read_rows
from services.trainer.data.validation import split_rows
from services.trainer.learning.task import Learned, Task
from services.trainer.reporter import Reporter
from services.trainer.settings import World
from services.trainer.state import TrainingState
from shared.contracts.jobs import TrainSpec
from tests.harness.training import parquet

__all__ = ["Lesson", "as_rows", "digest", "learn"]


@dataclass
class Lesson:
    """One training and what it left: `saved` are the folders of its checkpoints by their steps."""

    learned: Learned | None
    state: TrainingState
    printed: str
    saved: dict[int, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        assert self.learned is not None
        return self.learned.folder


def as_rows(lines: list[dict[str, Any]], folder: Path) -> list[Row]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.parquet"
    path.write_bytes(parquet(lines))
    return read_rows(path, "rows.parquet")


def digest(lesson: Lesson) -> str:
    """Of all files of a model."""
    paths = sorted(path for path in lesson.folder.rglob("*") if path.is_file())
    content = b"".join(path.relative_to(lesson.folder).as_posix().encode() + path.read_bytes() for path in paths)
    return hashlib.sha256(content).hexdigest()


def learn(
    spec: TrainSpec,
    base: str,
    rows: list[Any],
    test: list[Any],
    folder: Path,
    *,
    resumed: Path | None = None,
    stop_at: int | None = None,
    saved: dict[int, Path] | None = None,
    adapter: Path | None = None,
    teacher: Path | None = None,
    scores: list[bytes] | None = None,
    stop_while_scoring: bool = False,
) -> Lesson:
    """Train; `stop_at` asks it to end once the checkpoint of this step or a later one is saved, and
    `stop_while_scoring` once some of the teacher's scores are kept. The folders of checkpoints go into `saved`. The
    scores that were kept last are found, and what is kept is added, in `scores`.

    Raises what the training raises.
    """
    folder.mkdir(parents=True)
    split = split_rows(rows, spec.validation, spec.seed)
    stop, stream = threading.Event(), StringIO()
    saved = {} if saved is None else saved

    def save(checkpoint: Path, step: int) -> None:
        saved[step] = folder / f"saved-{step}"
        shutil.copytree(checkpoint, saved[step])
        if stop_at is not None and step >= stop_at:
            stop.set()

    kept = [] if scores is None else scores

    def save_scores(content: bytes) -> None:
        kept.append(content)
        if stop_while_scoring:
            stop.set()

    state = TrainingState.read(resumed) if resumed is not None else TrainingState()
    lesson = Lesson(learned=None, state=state, printed="", saved=saved)
    task = Task(
        spec=spec,
        base=base,
        train=split.train,
        validation=split.validation,
        test=test,
        folder=folder,
        resumed=resumed,
        world=World(rank=0, size=1, local_size=1),
        reporter=Reporter(stream=stream),
        state=state,
        save=save,
        stop=stop,
        adapter=adapter,
        teacher=teacher,
        load_scores=lambda: kept[-1] if kept else None,
        save_scores=save_scores,
    )
    try:
        lesson.learned = importlib.import_module(f"services.trainer.learning.{spec.target}").learn(task)
    finally:
        lesson.printed = stream.getvalue()
    return lesson
