"""What an adapter learns: to write the answers of a data set (SFT), or corrected ones before those that were given
(DPO)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch.nn.functional import logsigmoid

from services.trainer.data.prompted import AnswerRow, PreferenceRow
from services.trainer.learning.dialogue import Dialogue, DialogueEncoder
from services.trainer.learning.likelihood import answer_likelihoods, batches, collate
from services.trainer.learning.monitor import Measure

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Objective", "Pair", "Preferred", "Supervised"]

SURE: Final = 50.0
"""A loss for one token beyond which its exponential says nothing more."""


ANCHOR: Final = 0.2
"""The weight of the better answer's own loss beside that of the preference: without it a model may find both answers
less likely, and write a third."""


class Objective(Protocol):
    """A way to train. `rows_at_once` bounds what is computed at once, in rows of `encode`."""

    measure: Measure
    learning_rate: float
    sequences: int
    """Sequences of tokens of each row."""

    def encode(self, encoder: DialogueEncoder, rows: Sequence[Any]) -> list[Any]:
        """Rows as tokens, without those that do not fit."""

    def begin(self, model: Any, rows: Sequence[Any], size: int) -> None:
        """Note what the model says of encoded rows before it is trained, in batches of this size."""

    def collate(self, rows: Sequence[Any]) -> "dict[str, Tensor]":
        """Encoded rows as what a step computes."""

    def loss(self, model: Any, batch: "dict[str, Tensor]") -> "Tensor":
        """The mean over the rows of a batch."""

    def figures(self, model: Any, rows: Sequence[Any], size: int) -> dict[str, float]:
        """`loss` and the measure on encoded rows, computed in batches of this size, without gradients."""


class Supervised:
    """SFT: the answers word by word. Each answer counts alike, however long it is."""

    measure = Measure("perplexity", "perplexity", decides=False)
    learning_rate = 2e-4
    sequences = 1

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def encode(self, encoder: DialogueEncoder, rows: Sequence[AnswerRow]) -> list[Dialogue]:
        return [made for row in rows for made in encoder.encode(row, row.answer) or ()]

    def begin(self, model: Any, rows: Sequence[Dialogue], size: int) -> None:
        """Nothing is compared with the model that training begins with."""

    def collate(self, rows: Sequence[Dialogue]) -> "dict[str, Tensor]":
        return collate(rows, self._padding)

    def loss(self, model: Any, batch: "dict[str, Tensor]") -> "Tensor":
        likelihood, count = answer_likelihoods(model, batch)
        return -(likelihood / count).mean()

    def figures(self, model: Any, rows: Sequence[Dialogue], size: int) -> dict[str, float]:
        mean, likelihoods, tokens = 0.0, 0.0, 0
        with evaluated(model):
            for some in batches(rows, size):
                likelihood, count = answer_likelihoods(model, on_device(self.collate(some), model))
                mean -= float((likelihood / count).sum()) / len(rows)
                likelihoods += float(likelihood.sum())
                tokens += int(count.sum())
        return {"loss": mean, "perplexity": math.exp(min(-likelihoods / max(tokens, 1), SURE))}


@dataclass(slots=True)
class Pair:
    """A better and a worse answer to one prompt, and the log-probabilities of both before training."""

    chosen: Dialogue
    rejected: Dialogue
    reference: tuple[float, float] = (0.0, 0.0)


class Preferred:
    """DPO (Rafailov et al. 2023): the better answer gains on the worse one, from where the model begins. The greater
    `beta`, the nearer it stays.

    The measure is the share of rows of whose answers the model finds the better one likelier, token by token.
    """

    measure = Measure("accuracy", "preference accuracy")
    learning_rate = 5e-5
    sequences = 2

    def __init__(self, padding: int, beta: float) -> None:
        self._padding = padding
        self._beta = beta

    def encode(self, encoder: DialogueEncoder, rows: Sequence[PreferenceRow]) -> list[Pair]:
        made = (encoder.encode(row, row.chosen, row.rejected) for row in rows)
        return [Pair(dialogues[0], dialogues[1]) for dialogues in made if dialogues is not None]

    def begin(self, model: Any, rows: Sequence[Pair], size: int) -> None:
        with evaluated(model):
            for some in batches(rows, size):
                likelihood, _ = answer_likelihoods(model, on_device(self.collate(some), model))
                for row, chosen, rejected in zip(some, *likelihood.view(2, -1).tolist(), strict=True):
                    row.reference = (chosen, rejected)

    def collate(self, rows: Sequence[Pair]) -> "dict[str, Tensor]":
        batch = collate([*(row.chosen for row in rows), *(row.rejected for row in rows)], self._padding)
        return batch | {"reference": torch.tensor([row.reference for row in rows]).T}

    def loss(self, model: Any, batch: "dict[str, Tensor]") -> "Tensor":
        losses, _ = self._compare(model, batch)
        return losses.mean()

    def figures(self, model: Any, rows: Sequence[Pair], size: int) -> dict[str, float]:
        loss, right = 0.0, 0
        with evaluated(model):
            for some in batches(rows, size):
                losses, is_right = self._compare(model, on_device(self.collate(some), model))
                loss += float(losses.sum()) / len(rows)
                right += int(is_right.sum())
        return {"loss": loss, "accuracy": right / len(rows)}

    def _compare(self, model: Any, batch: "dict[str, Tensor]") -> "tuple[Tensor, Tensor]":
        """For each row its loss, and whether the better answer is the likelier one: (rows,) each."""
        likelihood, count = answer_likelihoods(model, batch)
        gains = (likelihood.view(2, -1) - batch["reference"]) * self._beta
        chosen, rejected = (likelihood / count).view(2, -1)
        return -logsigmoid(gains[0] - gains[1]) - ANCHOR * chosen, chosen > rejected


@contextmanager
def evaluated(model: Any) -> Iterator[None]:
    """Without dropout and gradients inside the context."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def on_device(batch: "dict[str, Tensor]", model: Any) -> "dict[str, Tensor]":
    return {name: tensor.to(model.device) for name, tensor in batch.items()}
