"""The passages beside an answer from which a language model learns, as a prompt would show them."""

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, Final

from shared.contracts.envelope import Passage

__all__ = ["MOST_PASSAGES", "as_columns", "prompt_passages"]

MOST_PASSAGES: Final = 5
"""Of one answer: a model learns to find the right one among those that a search puts beside it."""


def prompt_passages(
    ranked: Sequence[Passage], right: Sequence[Passage], fits: Callable[[Passage], bool]
) -> list[Passage]:
    """The passages that answer a question and the first that a search ranks, in the order of the search.

    Passages that answer it and were not found come last. `fits` says which of the others may be shown.
    """
    known = {passage.id for passage in right}
    others = (passage for passage in ranked if passage.id not in known and fits(passage))
    chosen = known | {passage.id for passage in islice(others, max(0, MOST_PASSAGES - len(known)))}
    found = [passage for passage in ranked if passage.id in chosen]
    there = {passage.id for passage in found}
    return [*found, *(passage for passage in right if passage.id not in there)]


def as_columns(passages: Sequence[Passage], right: Collection[str]) -> dict[str, Any]:
    """The members of a row that say what passages there are, and the numbers of those of the `right` documents."""
    return {
        "passages": tuple(passage.text for passage in passages),
        "sources": tuple(passage.document for passage in passages),
        "cited": tuple(number for number, passage in enumerate(passages, 1) if passage.document in right),
    }
