"""Trains an adapter: LoRA weights with which a language model answers as it was taught."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

from services.trainer.learning.arguments import training_arguments
from services.trainer.learning.dialogue import DialogueEncoder
from services.trainer.learning.lora import AdapterWeights, find_model, load_model, with_adapter
from services.trainer.learning.objectives import Objective, Preferred, Supervised
from services.trainer.learning.session import TrainingSession
from services.trainer.learning.task import Learned, Task
from shared.contracts.jobs import Loss, TrainSpec
from shared.contracts.models import AdapterBase
from shared.contracts.problems import Problem, ProblemType
from shared.stores.base_models import ADAPTER_WEIGHTS, fingerprint, read_base, write_base

__all__ = ["learn"]

WINDOW: Final = 2048
"""Tokens of a prompt with its answer, where the spec does not say."""

TOKENS_AT_ONCE: Final = 8192
"""Of all sequences that are computed at once; a step of more is computed in parts."""

MOST_TEST: Final = 500
"""Test rows that are measured."""


class _Trainer(Trainer):
    def __init__(
        self, objective: Objective, weights: AdapterWeights, validation: Sequence[Any], at_once: int, **options: Any
    ) -> None:
        super().__init__(data_collator=objective.collate, **options)
        self.loss_is_scaled_for_ga = False
        self._objective = objective
        self._weights = weights
        self._validation = validation
        self._at_once = at_once

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = self._objective.loss(model, inputs)
        return (loss, {}) if return_outputs else loss

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        figures = self._objective.figures(self.model, self._validation, self._at_once)
        metrics = {f"eval_{name}": value for name, value in figures.items()}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        assert output_dir is not None
        self._weights.save_folder(Path(output_dir), "")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._weights.load(Path(resume_from_checkpoint) / ADAPTER_WEIGHTS)


def learn(task: Task[Any]) -> Learned:
    """Raises Problem INVALID_REQUEST and TRAINING_FAILED, and Interrupted."""
    folder = find_model(task.base)
    name = folder.name if folder == Path(task.base) else task.base
    base = AdapterBase(name=name, fingerprint=fingerprint(folder))
    _check_base(task.adapter, base)
    set_seed(task.spec.seed)
    tokenizer = _tokenizer(folder)
    model = with_adapter(load_model(folder), task.spec.rank, task.adapter)
    weights = AdapterWeights(model)
    window = min(task.spec.max_tokens or WINDOW, getattr(model.config, "max_position_embeddings", WINDOW))
    encoder = DialogueEncoder(tokenizer, window=window, templates=task.templates)
    objective = _objective(task.spec, tokenizer.pad_token_id or 0)
    at_once = max(1, TOKENS_AT_ONCE // (window * objective.sequences))
    train, validation, test = _encoded(task, objective, encoder)

    def judge() -> float:
        return objective.figures(model, test[:MOST_TEST], at_once)[objective.measure.name]

    arguments = training_arguments(task, rows=len(train), learning_rate=objective.learning_rate, at_once=at_once)
    session = TrainingSession(task, weights, judge, objective.measure)
    objective.begin(model, [*train, *validation, *test], at_once)
    session.begin()
    trainer = _Trainer(
        objective,
        weights,
        validation,
        at_once,
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=train,
        eval_dataset=validation or None,
        callbacks=[session.monitor],
    )
    metrics = session.run(trainer)
    made = task.folder / "model"
    if task.world.leads:
        weights.save_folder(made, base.name)
        write_base(made, base)
    return Learned(folder=made, dimensions=None, metrics=metrics, base=base.name)


def _objective(spec: TrainSpec, padding: int) -> Objective:
    return Preferred(padding, spec.beta) if spec.objective is Loss.DPO else Supervised(padding)


def _encoded(
    task: Task[Any], objective: Objective, encoder: DialogueEncoder
) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Training, validation and test rows as tokens. Raises Problem INVALID_REQUEST where none of the first fits."""
    sides = [objective.encode(encoder, rows) for rows in (task.train, task.validation, task.test)]
    given = [len(task.train), len(task.validation), len(task.test)]
    if left_out := sum(given) - sum(map(len, sides)):
        task.reporter.say(f"{left_out:,} rows are left out: with their answers they do not fit into `max_tokens`")
    if not sides[0] or bool(task.validation) != bool(sides[1]) or bool(task.test) != bool(sides[2]):
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"Training cannot begin. {left_out:,} of {sum(given):,} rows do not fit into `max_tokens`, each with its "
            "question, its answer and a passage that answers it. Make `max_tokens` greater.",
        )
    return sides[0], sides[1], sides[2]


def _tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise Problem(
            ProblemType.INVALID_REQUEST, f"Training cannot begin. The model has no tokenizer that can be read: {error}"
        ) from error


def _check_base(adapter: Path | None, base: AdapterBase) -> None:
    """Raises Problem INVALID_REQUEST where the adapter to go on from was trained for another model."""
    known = read_base(adapter) if adapter is not None else None
    if known is not None and known.fingerprint != base.fingerprint:
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"Training cannot begin. The adapter to go on from was trained for the model '{known.name}' "
            f"({known.fingerprint[:12]}…), and `base` is '{base.name}' ({base.fingerprint[:12]}…).",
        )
