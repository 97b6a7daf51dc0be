"""How likely a language model finds answers: what both ways of training an adapter, and its figures, rest on."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from services.trainer.learning.dialogue import Dialogue

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["answer_likelihoods", "batches", "collate"]


def collate(dialogues: Sequence[Dialogue], padding: int) -> dict[str, "Tensor"]:
    """Tensors of dialogues, one a row, which all end at the right edge: `input_ids`, `attention_mask`, `position_ids`,
    each (rows, tokens), and `answers` (rows, longest answer), which is true for tokens of answers."""
    width = max(len(one.prompt) + len(one.answer) for one in dialogues)
    longest = max(len(one.answer) for one in dialogues)
    ids = torch.full((len(dialogues), width), padding)
    mask = torch.zeros((len(dialogues), width), dtype=torch.long)
    answers = torch.zeros((len(dialogues), longest), dtype=torch.bool)
    for row, one in enumerate(dialogues):
        tokens = (*one.prompt, *one.answer)
        ids[row, width - len(tokens) :] = torch.tensor(tokens)
        mask[row, width - len(tokens) :] = 1
        answers[row, longest - len(one.answer) :] = True
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "answers": answers}


def answer_likelihoods(model: Any, batch: dict[str, "Tensor"]) -> tuple["Tensor", "Tensor"]:
    """For each row the sum of the log-probabilities of its answer's tokens, and how many tokens these are: (rows,)
    each. Logits are made for answers alone: those of a prompt would take most of the memory."""
    answers = batch["answers"]
    count = answers.shape[1]
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        logits_to_keep=count + 1,
        use_cache=False,
    ).logits[:, -count - 1 : -1]
    wanted = batch["input_ids"][:, -count:]
    found = torch.log_softmax(logits.float(), dim=-1).gather(2, wanted.unsqueeze(2)).squeeze(2)
    return (found * answers).sum(dim=1), answers.sum(dim=1)


def batches(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Runs of rows in their order."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
