"""Watches a training: reports its steps, keeps the best model, saves checkpoints, and ends it in good order."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.learning.task import Task
from services.trainer.state import End
from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BEST", "NDCG", "Measure", "ModelWeights", "TrainingMonitor", "Weights"]

BEST: Final = "best.safetensors"
"""In a checkpoint: the weights of the best model so far, unless that is the checkpoint's own."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a model: its name in metrics, and in what people read. Where it `decides`, the look with the highest
    is the best; else the look with the least loss."""

    name: str
    words: str
    decides: bool = True


NDCG: Final = Measure("ndcg", "nDCG@10")


class Weights(Protocol):
    """What of a model is trained, and kept of its best look."""

    def save(self, path: Path) -> None: ...

    def load(self, path: Path) -> None: ...


class ModelWeights:
    """All of a model's."""

    def __init__(self, model: "nn.Module") -> None:
        self._model = model

    def save(self, path: Path) -> None:
        from safetensors.torch import save_model

        save_model(self._model, str(path))

    def load(self, path: Path) -> None:
        from safetensors.torch import load_model

        load_model(self._model, str(path))


class TrainingMonitor(TrainerCallback):
    """One per training. It decides the same in every process."""

    def __init__(self, task: Task[Any], weights: Weights, measure: Measure) -> None:
        self._task = task
        self._state = task.state
        self._weights = weights
        self._measure = measure
        self._best = task.folder / BEST
        self._began = time.monotonic() - task.state.seconds
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        """Whether training has ended because it was asked to."""
        return self._interrupted

    def load_best(self) -> None:
        """Give the model the weights of the best look, if there was one and it has others now."""
        if self._state.best is not None and self._state.best != self._state.step and self._best.exists():
            self._weights.load(self._best)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._state.total = state.max_steps
        self._check_step(state.global_step, args)
        if self._task.world.leads and self._state.best == state.global_step and not self._best.exists():
            self._keep()  # the best look was that of the checkpoint, whose weights are loaded
        self._task.reporter.progress(state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._state.step = state.global_step
        self._state.seconds = time.monotonic() - self._began
        self._task.reporter.progress(state.global_step, state.max_steps)
        limit = self._task.spec.max_seconds
        late = limit is not None and self._state.seconds >= limit
        stopped, late = self._agree(self._task.stop.is_set(), late, args)
        if state.global_step >= state.max_steps:
            self._end(End.STEPS, control)
        elif late:
            self._end(End.TIME, control)
        elif stopped:
            self._interrupted = True
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Raises Problem TRAINING_FAILED where the loss is not a number."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        known = ("loss", "learning_rate", "grad_norm")
        self._task.reporter.metrics(state.global_step, {name: float(logs[name]) for name in known if name in logs})
        if not math.isfinite(loss):
            raise Problem(
                ProblemType.TRAINING_FAILED,
                f"The loss is not a number after step {state.global_step}. Lower the `learning_rate`, or look for "
                "broken rows in the data set.",
            )
        self._state.add_loss(loss)
        self._task.reporter.say(f"step {state.global_step} of {state.max_steps}: loss {loss:.4f}")

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        found = metrics or {}
        measure = self._measure
        loss, score = float(found.get("eval_loss", math.inf)), float(found.get(f"eval_{measure.name}", -math.inf))
        self._task.reporter.metrics(state.global_step, {"validation_loss": loss, f"validation_{measure.name}": score})
        self._task.reporter.say(f"step {state.global_step}: validation loss {loss:.4f}, {measure.words} {score:.4f}")
        if self._state.look(state.global_step, score if measure.decides else 0.0, loss):
            self._state.best_figure = score if math.isfinite(score) else None
            if self._task.world.leads:
                self._keep()
        elif self._task.spec.patience is not None and self._state.since >= self._task.spec.patience:
            self._state.end = self._state.end or End.PATIENCE
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._task.world.size > 1:
            torch.distributed.barrier()  # every process has written its random numbers' state
        if self._task.world.leads:
            assert args.output_dir is not None
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._state.write(folder)
            if self._best.exists() and self._state.best != state.global_step:
                (folder / BEST).hardlink_to(self._best)
            self._task.save(folder, state.global_step)

    def _keep(self) -> None:
        """The weights as they are now are the best."""
        draft = self._best.with_suffix(".new")
        self._weights.save(draft)
        draft.replace(self._best)

    def _end(self, end: End, control: TrainerControl) -> None:
        self._state.end = end
        control.should_evaluate = bool(self._task.validation)
        control.should_save = control.should_training_stop = True

    def _check_step(self, step: int, args: TrainingArguments) -> None:
        """Raises Problem COMMAND_INTERRUPTED where the processes have found different checkpoints."""
        if self._task.world.size > 1:
            bounds = torch.tensor([step, -step], device=args.device)
            torch.distributed.all_reduce(bounds, op=torch.distributed.ReduceOp.MAX)
            if int(bounds[0]) != -int(bounds[1]):
                raise Problem(ProblemType.COMMAND_INTERRUPTED, "The processes found different checkpoints.")

    def _agree(self, stopped: bool, late: bool, args: TrainingArguments) -> tuple[bool, bool]:
        """What is so for any process is so for all: none may go on alone."""
        if self._task.world.size == 1:
            return stopped, late
        flags = torch.tensor([int(stopped), int(late)], device=args.device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        return bool(flags[0]), bool(flags[1])
