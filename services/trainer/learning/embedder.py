"""Trains an embedding model: questions near the passages that answer them."""

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    DistillKLDivLoss,
    MarginMSELoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import pairwise_cos_sim

from services.trainer.data.rows import Row
from services.trainer.learning.arguments import NoCard, freeze_unused, training_arguments
from services.trainer.learning.monitor import ModelWeights
from services.trainer.learning.ranking import DEPTH, Quiz, make_quiz, mean_ndcg
from services.trainer.learning.session import TrainingSession
from services.trainer.learning.task import Learned, Task
from services.trainer.learning.teacher import score_pairs
from shared.contracts.jobs import Loss
from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["learn"]

LEARNING_RATE: Final = 2e-5
FITS: Final = 64
"""Rows of a batch that are computed at once; a larger batch takes the loss that caches."""

FITS_IN_MEMORY: Final = 96
"""Texts of a batch that are computed at once without a GPU: each takes some 35 MB at 256 tokens of a small model."""

MINI_BATCH: Final = 32
TEMPERATURE: Final = 0.05
"""What similarities, which lie between -1 and 1, are divided by where the spec does not say."""

LOWEST: Final = -700.0
"""A logit whose logistic function is 0, without an overflow."""

TEXTS: Final = ("anchor", "positive")
LABEL: Final = "label"


class _Trainer(NoCard, SentenceTransformerTrainer):  # type: ignore[misc]  # the library has no types here
    loss_is_scaled_for_ga = False


def learn(task: Task[Row]) -> Learned:
    """Raises Problem INVALID_REQUEST and TRAINING_FAILED, and Interrupted."""
    model = _load(task)
    if task.world.size > 1:
        freeze_unused(model, ["text"], "sentence_embedding")
    quiz = make_quiz(task.test)
    train = _table(task.train, task)
    texts = len(train.column_names)
    at_once = _at_once(model, texts) if task.teacher is not None else None
    arguments = training_arguments(task, rows=len(train), learning_rate=LEARNING_RATE, at_once=at_once)
    arguments |= {"prompts": _prompts(model, train)}
    if task.teacher is None:
        arguments |= {"batch_sampler": "no_duplicates"}
    args = SentenceTransformerTrainingArguments(**arguments)
    validation = _table(task.validation, task, columns=train.column_names) if task.validation else None
    if task.teacher is not None:
        train, validation = _taught(task, train, validation, args.device)
    session = TrainingSession(task, ModelWeights(model), lambda: _ndcg(model, quiz))
    session.begin()
    trainer = _Trainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        loss=_loss(task, model, arguments["per_device_train_batch_size"], texts),
        evaluator=_Evaluator(make_quiz(task.validation)) if task.validation else None,
        callbacks=[session.monitor],
    )
    metrics = session.run(trainer)
    folder = task.folder / "model"
    if task.world.leads:
        model.save_pretrained(str(folder), create_model_card=False)
    return Learned(folder=folder, dimensions=model.get_embedding_dimension(), metrics=metrics)


def _load(task: Task[Row]) -> SentenceTransformer:
    model = SentenceTransformer(task.base, device=None, model_kwargs={"use_safetensors": True, "dtype": "float32"})
    if task.spec.max_tokens is not None:
        model.max_seq_length = min(task.spec.max_tokens, model.max_seq_length or task.spec.max_tokens)
    dimensions = model.get_embedding_dimension()
    if wrong := [size for size in task.spec.matryoshka if dimensions and size > dimensions]:
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"The model's vectors have {dimensions} dimensions: `matryoshka` cannot name {wrong[0]}.",
        )
    return model


def _table(rows: Sequence[Row], task: Task[Row], columns: list[str] | None = None) -> Dataset:
    """Questions, the right passages, and as many wrong ones for each row: where it has fewer, some stand twice; one
    without any gets passages of other rows. A teacher says of each what it is worth: then all that have fewer do."""
    most = max((len(row.negatives) for row in rows), default=0)
    if task.teacher is not None:
        most = task.spec.negatives
    count = min(task.spec.negatives, most) if columns is None else len(columns) - 2
    made: dict[str, list[str]] = {**{name: [] for name in TEXTS}, **{f"negative_{n + 1}": [] for n in range(count)}}
    for number, row in enumerate(rows):
        made["anchor"].append(row.question)
        made["positive"].append(row.positive)
        negatives = row.negatives
        if not negatives or (task.teacher is not None and len(negatives) < count):
            negatives += _others(rows, row, count - len(negatives), random.Random(f"{task.spec.seed}/{number}"))  # noqa: S311
        for place in range(count):
            made[f"negative_{place + 1}"].append(negatives[place % len(negatives)])
    return Dataset.from_dict(made)


def _others(rows: Sequence[Row], row: Row, count: int, chance: random.Random) -> tuple[str, ...]:
    """Passages of rows that have no document and not the question in common with this one."""
    found: list[str] = []
    for _ in range(20 * max(count, 1)):
        other = chance.choice(rows)
        if other.question != row.question and not set(other.documents) & set(row.documents):
            found.append(other.positive)
        if len(found) == count:
            break
    return tuple(found) or (row.question,)


def _at_once(model: SentenceTransformer, texts: int) -> int:
    """Rows that are computed at once, where each is a task by itself: the others of its step change nothing."""
    return FITS if model.device.type != "cpu" else min(FITS, max(1, FITS_IN_MEMORY // texts))


def _taught(
    task: Task[Row], train: Dataset, validation: Dataset | None, device: "torch.device"
) -> tuple[Dataset, Dataset | None]:
    """The tables, with the teacher's scores of each row's passages as labels: logits, or for `margin-mse` the scores
    that the stage `rerank` shows, whose differences are those that cosine similarities can have."""
    tables = [train, *([validation] if validation is not None else [])]
    question, *passages = train.column_names
    pairs = [(row[question], row[passage]) for table in tables for row in table for passage in passages]
    scores = score_pairs(task, pairs, device)
    if task.spec.distillation is Loss.MARGIN_MSE:
        scores = {pair: 1 / (1 + math.exp(-max(score, LOWEST))) for pair, score in scores.items()}
    made = [
        table.add_column(LABEL, [[scores[row[question], row[passage]] for passage in passages] for row in table])
        for table in tables
    ]
    return made[0], made[1] if validation is not None else None


def _loss(task: Task[Row], model: SentenceTransformer, batch: int, texts: int) -> "nn.Module":
    """That of batches of so many rows, which have so many texts each."""
    gather = task.world.size > 1
    chosen = task.spec.distillation or task.spec.loss
    temperature = task.spec.temperature or TEMPERATURE
    if chosen is Loss.AUTO:
        too_large = batch > FITS or (model.device.type == "cpu" and batch * texts > FITS_IN_MEMORY)
        chosen = Loss.CACHED_RANKING if too_large else Loss.RANKING
    loss: Any
    if chosen is Loss.CACHED_RANKING:
        loss = CachedMultipleNegativesRankingLoss(
            model, scale=1 / temperature, mini_batch_size=MINI_BATCH, gather_across_devices=gather
        )
    elif chosen is Loss.MARGIN_MSE:
        loss = MarginMSELoss(model, similarity_fct=pairwise_cos_sim)
    elif chosen is Loss.KL_DIVERGENCE:
        # The library's own temperature would multiply the loss by its square.
        loss = DistillKLDivLoss(model, similarity_fct=lambda one, other: pairwise_cos_sim(one, other) / temperature)
    else:
        loss = MultipleNegativesRankingLoss(model, scale=1 / temperature, gather_across_devices=gather)
    if task.spec.matryoshka:
        dimensions = model.get_embedding_dimension()
        loss = MatryoshkaLoss(model, loss, matryoshka_dims=sorted({dimensions, *task.spec.matryoshka}, reverse=True))
    trained: nn.Module = loss
    return trained


def _prompts(model: SentenceTransformer, train: Dataset) -> dict[str, str] | None:
    """What the model wants before questions and passages, by column."""
    known = model.prompts or {}
    question = known.get("query") or ""
    passage = next((known[name] for name in ("document", "passage") if known.get(name)), "")
    if not question and not passage:
        return None
    return {name: question if name == "anchor" else passage for name in train.column_names}


class _Evaluator(BaseEvaluator):  # type: ignore[misc]
    def __init__(self, quiz: Quiz) -> None:
        super().__init__()
        self._quiz = quiz

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        return {"ndcg": _ndcg(model, self._quiz)}


def _ndcg(model: SentenceTransformer, quiz: Quiz) -> float:
    import torch

    options: dict[str, Any] = {
        "batch_size": 64,
        "show_progress_bar": False,
        "convert_to_tensor": True,
        "normalize_embeddings": True,
    }
    with torch.inference_mode():
        questions = model.encode_query(quiz.questions, **options)
        passages = model.encode_document(quiz.passages, **options)
        found = (questions @ passages.T).topk(min(DEPTH, len(quiz.passages)), dim=1).indices.tolist()
    return mean_ndcg(quiz, found.__getitem__)
