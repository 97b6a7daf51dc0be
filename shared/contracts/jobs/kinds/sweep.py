"""The kind `sweep`: a search for the hyper-parameters of a training."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from shared.contracts.jobs.kinds.train import Loss, TrainSpec
from shared.contracts.jobs.spec import JobSpec, SpecPart
from shared.contracts.keys import Action
from shared.contracts.models import ModelKind

__all__ = ["Bounds", "SearchSpace", "SweepSpec", "TrialSetting"]

MOST_CHOICES: Final = 16

PRUNE_AFTER: Final = 5
"""Trials that succeed before one is pruned: as many as are made by chance, before the estimator has a say."""


class Bounds(SpecPart):
    """Between which values a hyper-parameter lies."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError("'low' is less than 'high'")
        return self


class SearchSpace(SpecPart):
    """What trials may change of a training: `learning_rate`, `temperature` and `beta` between two bounds, on a
    logarithmic scale, and the other members among choices."""

    learning_rate: Bounds | None = None
    temperature: Bounds | None = None
    beta: Bounds | None = None
    steps: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000_000)], ...], Field(max_length=MOST_CHOICES)] = ()
    batch: Annotated[tuple[Annotated[int, Field(ge=2, le=4096)], ...], Field(max_length=MOST_CHOICES)] = ()
    negatives: Annotated[tuple[Annotated[int, Field(ge=0, le=32)], ...], Field(max_length=MOST_CHOICES)] = ()
    rank: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(max_length=MOST_CHOICES)] = ()
    loss: Annotated[tuple[Loss, ...], Field(max_length=MOST_CHOICES)] = ()
    matryoshka: Annotated[
        tuple[Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(max_length=8)], ...],
        Field(max_length=MOST_CHOICES),
    ] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.bounds and not self.choices:
            raise ValueError("a space names at least one hyper-parameter, such as learning_rate")
        for name, choices in self.choices.items():
            if len(set(choices)) < len(choices):
                raise ValueError(f"{name} lists each choice once")
        return self

    @property
    def bounds(self) -> dict[str, Bounds]:
        """The hyper-parameters between bounds that are searched."""
        given = {"learning_rate": self.learning_rate, "temperature": self.temperature, "beta": self.beta}
        return {name: bounds for name, bounds in given.items() if bounds is not None}

    @property
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The hyper-parameters among choices that are searched."""
        named = ("steps", "batch", "negatives", "rank", "loss", "matryoshka")
        return {name: getattr(self, name) for name in named if getattr(self, name)}


class TrialSetting(SpecPart):
    """What a trial changes of the training; none of it for the default."""

    learning_rate: float | None = None
    temperature: float | None = None
    beta: float | None = None
    steps: int | None = None
    batch: int | None = None
    negatives: int | None = None
    rank: int | None = None
    loss: Loss | None = None
    matryoshka: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name} {_said(value)}" for name, value in self.changes.items()) or "the default"

    @property
    def changes(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)

    def applied(self, train: TrainSpec) -> TrainSpec:
        """The training with these members. Raises pydantic.ValidationError where they do not go together."""
        return TrainSpec.model_validate({**train.model_dump(), **self.changes})


class SweepSpec(JobSpec):
    """Train with several hyper-parameters, and keep the model that does best on the validation rows.

    `train` is the training whose members are the first trial's, and `space` what the others change. Each trial is a job
    of the kind `train`. `parallel` of them run at once, `trials` are made at most, and none begins later than `seconds`
    after the sweep. The models of the trials that are not the best are removed.

    With `prune`, a trial other than the first ends early where its best look so far is worse than the median of what
    the trials that have succeeded, `prune_after` at least, had after the same share of their steps.
    """

    required_action = Action.WRITE
    is_run = True
    has_children = True
    main_metrics = (
        *("ndcg_validation", "ndcg_after", "perplexity_validation", "perplexity_after"),
        *("accuracy_validation", "accuracy_after"),
    )
    step_outputs = {
        "better": "boolean",
        "model": "text",
        "hash": "text",
        "job": "text",
        **{
            f"{measure}_{rows}": "number"
            for measure in ("ndcg", "perplexity", "accuracy")
            for rows in ("validation", "validation_default", "after", "after_default")
        },
        "trials": "number",
        "failed": "number",
        "pruned": "number",
        "message": "text",
    }

    kind: Literal["sweep"] = "sweep"
    train: TrainSpec
    space: SearchSpace
    trials: int = Field(12, ge=2, le=100)
    parallel: int = Field(1, ge=1, le=16)
    seconds: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**32)
    prune: bool = False
    prune_after: int = Field(PRUNE_AFTER, ge=1, le=99)

    @property
    def measure(self) -> str:
        """What trials are compared by: the outputs of a training that begin so."""
        if self.train.target is not ModelKind.ADAPTER:
            return "ndcg"
        return "accuracy" if self.train.objective is Loss.DPO else "perplexity"

    @property
    def minimizes(self) -> bool:
        """Whether less of the measure is better."""
        return self.measure == "perplexity"

    @property
    def folders(self) -> tuple[str, ...]:
        return self.train.folders

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.train.target is ModelKind.ADAPTER and self.space.loss:
            raise ValueError("the losses of an adapter learn from other rows: sweep each by itself")
        if self.train.target is not ModelKind.ADAPTER and (self.space.rank or self.space.beta):
            raise ValueError("space.rank and space.beta are for the target 'adapter'")
        if self.space.beta is not None and self.train.objective is not Loss.DPO:
            raise ValueError("space.beta is for the loss 'dpo'")
        if not self.train.validation:
            raise ValueError("the trials of a sweep are compared on the validation rows: 'validation' is above 0")
        if self.prune and self.prune_after >= self.trials:
            raise ValueError(
                f"no trial would be pruned: 'prune_after' is {self.prune_after}, and there are {self.trials} trials at "
                "most; lower 'prune_after', or leave 'prune' out"
            )
        if not self.prune and self.prune_after != PRUNE_AFTER:
            raise ValueError("'prune_after' is for a sweep with 'prune'")
        for name, bounds in self.space.bounds.items():
            self._check(name, bounds.low)
            self._check(name, bounds.high)
        for name, choices in self.space.choices.items():
            for choice in choices:
                self._check(name, choice)
        return self

    def _check(self, name: str, value: Any) -> None:
        """Raises ValueError for a value that no trial could have."""
        losses = [None, *self.space.loss] if name == "temperature" else [None]
        problems = []
        for loss in losses:
            try:
                TrialSetting(**{"loss": loss, name: value}).applied(self.train)
            except ValidationError as error:
                problems.append(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, "))
        if len(problems) == len(losses):
            raise ValueError(f"space.{name}: {_said(value)} does not go with the training: {problems[0]}")


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
