"""Other ways to cut texts into batches than the embedder's, to see what its own brings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

from services.embedder.model import model as embedder
from services.embedder.model.batching import plan_batches

__all__ = ["PLANS", "used"]

FIXED: Final = 32

Plan = list[list[int]]


def sorted_budget(lengths: Sequence[int], budget: int) -> Plan:
    """The embedder's own."""
    return plan_batches(lengths, token_budget=budget, max_rows=256, padding_limit=budget // 16)


def arrival_budget(lengths: Sequence[int], budget: int) -> Plan:
    """By tokens, in the order of arrival."""
    batches: Plan = []
    longest = 0
    for row, length in enumerate(lengths):
        longest = max(longest, length)
        if not batches or (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
            longest = length
        batches[-1].append(row)
    return [_longest_first(batch, lengths) for batch in batches]


def sorted_fixed(lengths: Sequence[int], _: int) -> Plan:
    """32 texts of similar length, as sentence-transformers itself does within a call."""
    return _fixed(sorted(range(len(lengths)), key=lambda row: -lengths[row]), lengths)


def arrival_fixed(lengths: Sequence[int], _: int) -> Plan:
    """32 texts as they come, as a server with a fixed size of batch."""
    return _fixed(range(len(lengths)), lengths)


PLANS: Final[dict[str, Callable[[Sequence[int], int], Plan]]] = {
    "by tokens, sorted": sorted_budget,
    "by tokens, as they come": arrival_budget,
    "32 texts, sorted": sorted_fixed,
    "32 texts, as they come": arrival_fixed,
}


@contextmanager
def used(model: embedder.EmbeddingModel, name: str, budget: int) -> Iterator[None]:
    """Have the model cut by another plan; a budget of 0 is the model's own."""
    budget = budget or model.batch_tokens
    with patch.object(embedder, "plan_batches", lambda lengths, **_: PLANS[name](lengths, budget)):
        yield


def _fixed(rows: Sequence[int], lengths: Sequence[int]) -> Plan:
    return [_longest_first(list(rows[at : at + FIXED]), lengths) for at in range(0, len(rows), FIXED)]


def _longest_first(batch: list[int], lengths: Sequence[int]) -> list[int]:
    """The embedder takes the width of a batch from its first row."""
    return sorted(batch, key=lambda row: -lengths[row])
