"""The kind `train`: a model that answers a collection's questions better, from a data set."""

import re
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from shared.contracts.jobs.kinds.command import Executor, Resources, Toleration
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action
from shared.contracts.models import MODEL_NAME, ModelKind, OptionalModelName

__all__ = ["DISTILLATION", "LOSSES", "Loss", "TrainSpec"]


class Loss(StrEnum):
    """What training makes small.

    `ranking`         embedder: the right passage before those of other questions and the hard negatives
    `cached-ranking`  the same for large batches, in the memory of small ones, for more time
    `cross-entropy`   reranker: each pair of question and passage by itself
    `lambda`          reranker: the order of all passages of a question
    `kl-divergence`   embedder: how a teacher shares a question among its passages
    `margin-mse`      embedder: by how much a teacher puts the right passage above each of the negatives
    `mse`             reranker: the scores of a teacher
    `sft`             adapter: the answers of the data set, word by word
    `dpo`             adapter: corrected answers before those that were given
    """

    AUTO = "auto"
    RANKING = "ranking"
    CACHED_RANKING = "cached-ranking"
    CROSS_ENTROPY = "cross-entropy"
    LAMBDA = "lambda"
    KL_DIVERGENCE = "kl-divergence"
    MARGIN_MSE = "margin-mse"
    MSE = "mse"
    SFT = "sft"
    DPO = "dpo"


LOSSES: Final = {
    ModelKind.EMBEDDER: (Loss.RANKING, Loss.CACHED_RANKING, Loss.KL_DIVERGENCE, Loss.MARGIN_MSE),
    ModelKind.RERANKER: (Loss.CROSS_ENTROPY, Loss.LAMBDA, Loss.MSE),
    ModelKind.ADAPTER: (Loss.SFT, Loss.DPO),
}

DISTILLATION: Final = {
    ModelKind.EMBEDDER: (Loss.KL_DIVERGENCE, Loss.MARGIN_MSE),
    ModelKind.RERANKER: (Loss.MSE,),
}
"""The losses that learn from a teacher's scores, by target; the first is what `auto` takes."""

TEMPERED: Final = (Loss.RANKING, Loss.CACHED_RANKING, Loss.KL_DIVERGENCE)
"""The losses of a softmax over similarities."""


class TrainSpec(JobSpec):
    """Train an embedder, a reranker, or an adapter of a language model on a data set.

    `dataset` is the job that made the data set, or the upload that holds files of the same names. `base` is the model
    to begin with: one of the store, `m-…`; empty is the bundled embedding model; others only as far as the scheduler
    allows them. For an adapter `base` is the language model, and `adapter` one of the store to go on from; `rank` is
    that of its matrices, and `beta` says how near `dpo` stays to what training begins with.

    `teacher` is a reranker whose scores of the rows' passages an embedder or a reranker learns: one of the store, or
    others only as far as the scheduler allows them. `temperature` is what an embedder's similarities are divided by
    before a softmax makes shares of them: 0.05 by default.

    Training ends after `epochs`, or after `steps`. A part of the training rows, `validation`, is kept for looking on
    the way, every `eval_steps`: by default ten times. It shares no document with the rest. After `patience` looks that
    found nothing better training stops. The model of the best look is kept, also when `max_seconds` have passed.
    `warmup` is the part of the steps in which the learning rate rises. `negatives` of each row are used. With
    `matryoshka` also the first so many dimensions of a vector are trained to suffice. `processes` share each step:
    together they see `batch` rows each.
    """

    required_action = Action.WRITE
    is_run = True
    main_metrics = ("ndcg_after", "perplexity_after", "accuracy_after", "loss")
    input_files = {"dataset": "dataset.json"}
    step_outputs = {
        "model": "text",
        "hash": "text",
        "loss": "number",
        "steps": "number",
        "seconds": "number",
        "ndcg_before": "number",
        "ndcg_after": "number",
        "ndcg_validation": "number",
        "perplexity_before": "number",
        "perplexity_after": "number",
        "perplexity_validation": "number",
        "accuracy_before": "number",
        "accuracy_after": "number",
        "accuracy_validation": "number",
        "stopped_early": "boolean",
    }

    kind: Literal["train"] = "train"
    target: Literal[ModelKind.EMBEDDER, ModelKind.RERANKER, ModelKind.ADAPTER]
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    base: Annotated[str, Field(max_length=500)] = ""
    adapter: OptionalModelName = ""
    teacher: Annotated[str, Field(max_length=500)] = ""
    description: Annotated[str, Field(max_length=1000)] = ""
    epochs: float = Field(1.0, gt=0, le=1000)
    steps: int | None = Field(None, ge=1, le=10_000_000)
    batch: int = Field(32, ge=2, le=4096)
    learning_rate: float | None = Field(None, gt=0, le=1)
    warmup: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0, le=1)
    loss: Loss = Loss.AUTO
    rank: int = Field(16, ge=1, le=256)
    beta: float = Field(0.1, gt=0, le=10)
    temperature: float | None = Field(None, ge=0.001, le=10)
    negatives: int = Field(4, ge=0, le=32)
    matryoshka: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(max_length=8)] = ()
    max_tokens: int | None = Field(None, ge=8, le=32_768)
    validation: float = Field(0.1, ge=0, le=0.5)
    eval_steps: int | None = Field(None, ge=1)
    patience: int | None = Field(5, ge=1, le=1000)
    seed: int = Field(0, ge=0, lt=2**32)
    processes: int = Field(1, ge=1, le=64)
    max_seconds: float | None = Field(None, gt=0)
    executor: Executor = Executor.AUTO
    resources: Resources = Resources()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    ttl_seconds: int = Field(3600, ge=60, le=30 * 86400)

    @property
    def distillation(self) -> Loss | None:
        """The loss that learns from the teacher; None without one."""
        if not self.teacher:
            return None
        return DISTILLATION[self.target][0] if self.loss is Loss.AUTO else self.loss

    @property
    def is_tempered(self) -> bool:
        """Whether a temperature has a part in the loss."""
        return self.target is ModelKind.EMBEDDER and (self.distillation or self.loss) in (Loss.AUTO, *TEMPERED)

    @property
    def objective(self) -> Loss:
        """The loss of an adapter."""
        return Loss.DPO if self.loss is Loss.DPO else Loss.SFT

    @property
    def files(self) -> tuple[str, str]:
        """The files of the data set that are read: what is trained on, and what tests."""
        if self.target is not ModelKind.ADAPTER:
            return "train.parquet", "test.parquet"
        if self.objective is Loss.DPO:
            return "preferences.parquet", "test_preferences.parquet"
        return "answers.parquet", "test_answers.parquet"

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.dataset,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.loss is not Loss.AUTO and self.loss not in LOSSES[self.target]:
            known = ", ".join(LOSSES[self.target])
            raise ValueError(f"the loss '{self.loss}' is not for target '{self.target}': choose one of {known}")
        self._check_teacher()
        if self.temperature is not None and self.target is not ModelKind.EMBEDDER:
            raise ValueError("temperature is for the target 'embedder'")
        if self.temperature is not None and not self.is_tempered:
            raise ValueError(f"temperature is for the losses {', '.join(TEMPERED)}")
        if self.matryoshka and self.target is not ModelKind.EMBEDDER:
            raise ValueError("matryoshka is for the target 'embedder'")
        if self.target is ModelKind.ADAPTER:
            if not self.base:
                raise ValueError("an adapter needs a 'base': the language model that the generator runs")
            if re.fullmatch(MODEL_NAME, self.base):
                raise ValueError("the 'base' of an adapter is a language model; 'adapter' is what to go on from")
        elif self.adapter:
            raise ValueError("'adapter' is for the target 'adapter'")
        if list(self.matryoshka) != sorted(set(self.matryoshka), reverse=True):
            raise ValueError("matryoshka lists dimensions from the largest to the smallest, each once")
        return self

    def _check_teacher(self) -> None:
        known = DISTILLATION.get(self.target, ())
        if not self.teacher:
            if self.loss in known:
                raise ValueError(f"the loss '{self.loss}' needs a 'teacher': a reranker of the store, m-…")
            return
        if not known:
            raise ValueError(f"'teacher' is for the targets {' and '.join(DISTILLATION)}, not for '{self.target}'")
        if self.loss not in (Loss.AUTO, *known):
            raise ValueError(
                f"the loss '{self.loss}' does not learn from a 'teacher': choose {' or '.join(known)}, or leave "
                "'teacher' out"
            )
        if self.target is ModelKind.EMBEDDER and not self.negatives:
            raise ValueError("an embedder learns from a 'teacher' by the negatives: 'negatives' is at least 1")
