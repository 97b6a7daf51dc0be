"""Two sides of examples, training and test, that have no document in common."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.scheduler.datasets.examples import Example, Origin
from services.scheduler.evaluation.groups import grouped
from shared.contracts.problems import Problem, ProblemType

__all__ = ["FEWEST_TEST", "FEWEST_TRAIN", "Split", "split"]

FEWEST_TRAIN: Final = 20
FEWEST_TEST: Final = 10
"""Groups of questions that share no document. With fewer there is nothing to learn, or nothing to judge by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Both sides, each in the order of the input, with the name of each example's group.

    `test_documents` answer questions of the test side, or corrections there are about them: also those of examples that
    were over the limit. Nothing of them belongs into the training data.
    """

    train: Sequence[tuple[Example, str]]
    test: Sequence[tuple[Example, str]]
    test_documents: frozenset[str]


def split(examples: Sequence[Example], *, test_share: float, seed: int, limit: int) -> Split:
    """Split by groups: examples that share a document, directly or through others, are on one side.

    A hash of the group's first document decides, so that a document stays on its side in later data sets of the same
    seed and share. Where that leaves a side fewer groups than it needs, those next in the order of the hashes join it.
    Of more examples than `limit` the same ones are always taken. Raises Problem INVALID_REQUEST where there are too few
    groups for two sides.
    """
    names = grouped([(example.question, example.connected) for example in examples])
    answerable = {name for example, name in zip(examples, names, strict=True) if example.sources}
    _check_size(examples, len(answerable))
    chances = {name: _chance(name, seed) for name in names}
    ordered = sorted(answerable, key=lambda name: chances[name])
    wanted = sum(chances[name] < test_share for name in ordered)
    count = min(max(wanted, FEWEST_TEST), len(ordered) - FEWEST_TRAIN)
    test_side = set(ordered[:count])
    # Of what has only corrections each group is decided alone: it is no part of what a side needs.
    test_side |= {name for name in set(names) - answerable if chances[name] < test_share}
    taken = sorted(range(len(examples)), key=lambda place: examples[place].order(seed))[:limit]
    sides: tuple[list[tuple[Example, str]], list[tuple[Example, str]]] = ([], [])
    for place in sorted(taken):
        sides[names[place] in test_side].append((examples[place], names[place]))
    documents = (
        document
        for example, name in zip(examples, names, strict=True)
        if name in test_side
        for document in example.connected
    )
    return Split(train=sides[0], test=sides[1], test_documents=frozenset(documents))


def _check_size(examples: Sequence[Example], groups: int) -> None:
    """Raises Problem INVALID_REQUEST where there are too few groups of questions, and says how many there are."""
    if groups >= FEWEST_TRAIN + FEWEST_TEST:
        return
    origins = Counter(example.origin for example in examples if example.sources)
    counts = ", ".join(f"{origins[origin]:,} {_FROM[origin]}" for origin in Origin if origins[origin])
    raise Problem(
        ProblemType.INVALID_REQUEST,
        f"There is too little to make a data set of: {sum(origins.values()):,} questions"
        f"{f' ({counts})' if counts else ''} about {groups:,} separate documents, and it takes "
        f"{FEWEST_TRAIN + FEWEST_TEST}. Let readers rate answers and judge their sources "
        "(SLUICE_KEEP_ANSWERS), name sets of questions with the 'sources' that answer them, or have a model write one: "
        "`sluice evaluate --generate`.",
    )


_FROM: Final = {
    Origin.QUESTIONS: "from sets",
    Origin.FEEDBACK: "from feedback",
    Origin.SYNTHETIC: "written by a model",
}


def _chance(group: str, seed: int) -> float:
    """From 0 to 1, evenly."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64
