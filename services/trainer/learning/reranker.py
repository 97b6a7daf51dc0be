"""Trains a cross-encoder: one score for a question and a passage, higher where the passage answers it."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from datasets import Dataset
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, LambdaLoss, MSELoss
from transformers import set_seed

from services.trainer.data.rows import Row
from services.trainer.learning.arguments import NoCard, freeze_unused, training_arguments
from services.trainer.learning.monitor import ModelWeights
from services.trainer.learning.ranking import Quiz, make_quiz, mean_ndcg
from services.trainer.learning.session import TrainingSession
from services.trainer.learning.task import Learned, Task
from services.trainer.learning.teacher import score_pairs
from shared.contracts.jobs import Loss, TrainSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["learn"]

LEARNING_RATE: Final = 2e-5
CANDIDATES: Final = 20
"""Passages of each question that are ranked to measure: those that answer it, its negatives, and others."""

MOST_QUESTIONS: Final = 200
MINI_BATCH: Final = 32


class _Trainer(NoCard, CrossEncoderTrainer):  # type: ignore[misc]  # the library has no types here
    pass


class _Evaluator(BaseEvaluator):  # type: ignore[misc]
    def __init__(self, quiz: Quiz, seed: int) -> None:
        super().__init__()
        self._quiz = quiz
        self._seed = seed

    def __call__(self, model: CrossEncoder, *args: Any, **kwargs: Any) -> dict[str, float]:
        return {"ndcg": _ndcg(model, self._quiz, self._seed)}


def learn(task: Task[Row]) -> Learned:
    """Raises Problem INVALID_REQUEST and TRAINING_FAILED, and Interrupted."""
    set_seed(task.spec.seed)  # where the base has no head for scores, a new one begins by chance
    model = CrossEncoder(
        task.base,
        num_labels=1,
        max_length=task.spec.max_tokens,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    )
    if task.world.size > 1:
        freeze_unused(model, [("question", "passage")], "scores")
    quiz = make_quiz(task.test, questions=MOST_QUESTIONS)
    lists = task.spec.loss is Loss.LAMBDA
    table = _lists if lists else _pairs
    train = table(task.train, task)
    batch = max(task.world.size, task.spec.batch // (1 + max(task.spec.negatives, 1))) if lists else None
    if lists and batch is not None:
        batch -= batch % task.world.size
    arguments = training_arguments(task, rows=len(train), learning_rate=LEARNING_RATE, batch=batch)
    args = CrossEncoderTrainingArguments(**arguments)
    looked_at = table(task.validation, task) if task.validation else None
    if task.teacher is not None:
        train, looked_at = _taught(task, train, looked_at, args.device)
    session = TrainingSession(task, ModelWeights(model), lambda: _ndcg(model, quiz, task.spec.seed))
    session.begin()
    validation = make_quiz(task.validation, questions=MOST_QUESTIONS)
    trainer = _Trainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=looked_at,
        loss=_loss(model, task.spec),
        evaluator=_Evaluator(validation, task.spec.seed) if task.validation else None,
        callbacks=[session.monitor],
    )
    metrics = session.run(trainer)
    folder = task.folder / "model"
    if task.world.leads:
        model.save_pretrained(str(folder), create_model_card=False)
    return Learned(folder=folder, dimensions=None, metrics=metrics)


def _loss(model: CrossEncoder, spec: TrainSpec) -> "nn.Module":
    loss: nn.Module
    if spec.distillation is not None:
        loss = MSELoss(model)
    elif spec.loss is Loss.LAMBDA:
        loss = LambdaLoss(model, mini_batch_size=MINI_BATCH)
    else:
        loss = BinaryCrossEntropyLoss(model)
    return loss


def _taught(
    task: Task[Row], train: Dataset, validation: Dataset | None, device: "torch.device"
) -> tuple[Dataset, Dataset | None]:
    """The tables of pairs, with the teacher's logits in place of the labels."""
    tables = [train, *([validation] if validation is not None else [])]
    pairs = [[(row["question"], row["passage"]) for row in table] for table in tables]
    scores = score_pairs(task, [pair for of_table in pairs for pair in of_table], device)
    made = [
        table.remove_columns("label").add_column("label", [scores[pair] for pair in of_table])
        for table, of_table in zip(tables, pairs, strict=True)
    ]
    return made[0], made[1] if validation is not None else None


def _pairs(rows: Sequence[Row], task: Task[Row]) -> Dataset:
    """Each question with the passage that answers it, label 1, and with those that do not, label 0."""
    made: dict[str, list[Any]] = {"question": [], "passage": [], "label": []}
    for row, negatives in _with_negatives(rows, task):
        for number, passage in enumerate((row.positive, *negatives)):
            made["question"].append(row.question)
            made["passage"].append(passage)
            made["label"].append(1.0 if number == 0 else 0.0)
    return Dataset.from_dict(made)


def _lists(rows: Sequence[Row], task: Task[Row]) -> Dataset:
    """Each question with a list of passages and one of their labels."""
    made: dict[str, list[Any]] = {"question": [], "passages": [], "labels": []}
    for row, negatives in _with_negatives(rows, task):
        made["question"].append(row.question)
        made["passages"].append([row.positive, *negatives])
        made["labels"].append([1.0, *(0.0 for _ in negatives)])
    return Dataset.from_dict(made)


def _with_negatives(rows: Sequence[Row], task: Task[Row]) -> list[tuple[Row, list[str]]]:
    """Rows with the negatives of each that are used. Where it has too few, passages of other rows are added: a
    reranker learns nothing from right answers alone."""
    wanted = max(task.spec.negatives, 1)
    passages = sorted({row.positive for row in rows})
    right: dict[str, set[str]] = {}
    for row in rows:
        right.setdefault(row.question, set()).add(row.positive)
    found = []
    for number, row in enumerate(rows):
        chance = random.Random(f"{task.spec.seed}/{number}")  # noqa: S311
        negatives = [text for text in row.negatives if text not in right[row.question]][:wanted]
        others = chance.sample(passages, min(len(passages), 2 * wanted))
        taken = right[row.question] | set(negatives)
        negatives += [text for text in others if text not in taken][: wanted - len(negatives)]
        found.append((row, negatives))
    return found


def _ndcg(model: CrossEncoder, quiz: Quiz, seed: int) -> float:
    """How well it orders for each question the passages that answer it among others drawn by chance."""
    pairs: list[tuple[str, str]] = []
    candidates: list[list[int]] = []
    for number, question in enumerate(quiz.questions):
        chance = random.Random(f"{seed}/{number}")  # noqa: S311
        drawn = chance.sample(range(len(quiz.passages)), min(CANDIDATES, len(quiz.passages)))
        chosen = sorted({*quiz.right[number], *quiz.wrong[number], *drawn})
        chance.shuffle(chosen)
        candidates.append(chosen)
        pairs += [(question, quiz.passages[index]) for index in chosen]
    scores = iter(model.predict(pairs, batch_size=64, show_progress_bar=False).tolist() if pairs else ())
    ranked = []
    for chosen in candidates:
        scored = [(next(scores), index) for index in chosen]
        ranked.append([index for _, index in sorted(scored, key=lambda pair: -pair[0])])
    return mean_ndcg(quiz, ranked.__getitem__)
