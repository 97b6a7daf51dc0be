"""What all trainers of the library are told, and the parts of them that we replace."""

import math
from pathlib import Path
from typing import Any

import torch

from services.trainer.learning.task import Task
from shared.contracts.problems import Problem, ProblemType

__all__ = ["NoCard", "freeze_unused", "training_arguments"]

LOOKS = 10
"""Looks on the way, where the spec does not say how often."""

LOGS = 20
"""Reports of the loss between two looks, at most."""


class NoCard:
    """For a trainer of sentence-transformers: it writes weights and their configuration and nothing else.

    A card of the model would differ each time, and with it the name of the model.
    """

    model: Any

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """There is no card."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(output_dir, create_model_card=False)


def training_arguments(
    task: Task[Any], *, rows: int, learning_rate: float, batch: int | None = None, at_once: int | None = None
) -> dict[str, Any]:
    """Arguments of `TrainingArguments`. `batch` is of all processes together, by default the spec's. Of its share each
    process computes at most `at_once` rows at once.

    Raises Problem INVALID_REQUEST where the processes cannot share the batch.
    """
    spec, size = task.spec, task.world.size
    share, rest = divmod(batch or spec.batch, size)
    if rest or not share:
        raise Problem(
            ProblemType.INVALID_REQUEST, f"{size} processes cannot share batches of {batch or spec.batch} evenly."
        )
    steps = spec.steps or math.ceil(math.ceil(rows / (share * size)) * spec.epochs)
    looks = min(spec.eval_steps or max(1, steps // LOOKS), steps)
    logs = max(1, looks // LOGS)
    looks = math.ceil(looks / logs) * logs  # so that a checkpoint falls on a report, and nothing is left out of one
    rows_at_once = next(count for count in range(min(share, at_once or share), 0, -1) if share % count == 0)
    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(task.world.shared_folder(task.folder) / "checkpoints"),
        "per_device_train_batch_size": rows_at_once,
        "gradient_accumulation_steps": share // rows_at_once,
        "per_device_eval_batch_size": min(share, 64),
        "num_train_epochs": spec.epochs,
        "max_steps": spec.steps or -1,
        "learning_rate": spec.learning_rate or learning_rate,
        "warmup_steps": spec.warmup,
        "weight_decay": spec.weight_decay,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "logging_strategy": "steps",
        "logging_steps": logs,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if task.validation else "no",
        "eval_steps": looks,
        "save_strategy": "steps",
        "save_steps": looks,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not cuda,
        "bf16": cuda and torch.cuda.is_bf16_supported(),
        "dataloader_pin_memory": cuda,
        # Processes that have one batch more than others would wait for ever.
        "dataloader_drop_last": size > 1,
        "ddp_find_unused_parameters": False,
        "remove_unused_columns": False,
    }


def freeze_unused(model: Any, texts: list[Any], output: str) -> None:
    """Take out of training what has no part in a model's `output`, such as the pooler of a BERT whose tokens are pooled
    otherwise. Its weights would stay as they are, but several processes would wait for their gradients.

    Random numbers and gradients are afterwards as before.
    """
    with torch.random.fork_rng():
        features = {
            name: value.to(model.device) if isinstance(value, torch.Tensor) else value
            for name, value in model.preprocess(texts).items()
        }
        model(features)[output].sum().backward()
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
    model.zero_grad(set_to_none=True)
