"""One training from its first step, or its last checkpoint, to its best model. The same for all targets."""

import shutil
from collections.abc import Callable
from typing import Any

from transformers import PrinterCallback

from services.trainer.learning.monitor import BEST, NDCG, Measure, TrainingMonitor, Weights
from services.trainer.learning.task import Interrupted, Task

__all__ = ["TrainingSession"]


class TrainingSession:
    """`judge` gives the `measure` of the model on the test rows; only the leading process calls it."""

    def __init__(self, task: Task[Any], weights: Weights, judge: Callable[[], float], measure: Measure = NDCG) -> None:
        self._task = task
        self._judge = judge
        self._measure = measure
        self.monitor = TrainingMonitor(task, weights, measure)
        if task.resumed is not None and (task.resumed / BEST).exists():
            shutil.copyfile(task.resumed / BEST, task.folder / BEST)

    def begin(self) -> None:
        """Measure the model that training begins with, unless an earlier try has."""
        task = self._task
        if task.world.leads and task.test and task.state.before is None:
            task.state.before = self._judge()
            task.reporter.metrics(0, {f"test_{self._measure.name}": task.state.before})
        if task.resumed is not None:
            task.reporter.say(f"goes on from the checkpoint of step {task.state.step}")

    def run(self, trainer: Any) -> dict[str, float]:
        """Train, and leave the model with the weights of the best look. Returns the figures of the training.

        Raises Interrupted.
        """
        task = self._task
        trainer.remove_callback(PrinterCallback)
        if task.state.end is not None and task.resumed is not None:
            # It had ended, and was cut off before its model was published.
            trainer._load_from_checkpoint(str(task.resumed))
        else:
            trainer.train(resume_from_checkpoint=str(task.resumed) if task.resumed is not None else None)
        if self.monitor.interrupted:
            raise Interrupted
        self.monitor.load_best()
        return self._figures()

    def _figures(self) -> dict[str, float]:
        task, state = self._task, self._task.state
        figures = {"steps": float(state.step), "seconds": round(state.seconds, 3)}
        if state.loss is not None:
            figures["loss"] = state.loss
        name = self._measure.name
        if state.before is not None:
            figures[f"{name}_before"] = state.before
        if state.best_figure is not None:
            figures[f"{name}_validation"] = state.best_figure
        if task.world.leads and task.test:
            figures[f"{name}_after"] = after = self._judge()
            task.reporter.metrics(state.step, {f"test_{name}": after})
        return figures
