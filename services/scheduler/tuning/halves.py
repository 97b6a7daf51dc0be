"""Questions in two halves: trials see the first, and the second is kept to compare at the end."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.scheduler.evaluation.groups import grouped
from services.scheduler.evaluation.questions import Question
from shared.contracts.problems import Problem, ProblemType

__all__ = ["FEWEST", "Halves", "halves"]

FEWEST: Final = 20
"""Groups of questions in a half. With fewer the interval of a difference says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """The questions to tune on and the held-out ones, each in the order of the input. `groups` names the group of each
    held-out question: those of one group share documents, so they are right or wrong together."""

    tuned: Sequence[Question]
    held_out: Sequence[Question]
    groups: Sequence[str]


def halves(questions: Sequence[Question]) -> Halves:
    """The halves of questions that have sources.

    Questions that share a document are in one half, so that no trial learns of the held-out documents; so are
    repetitions of a question, whatever their case and spaces. A hash of the group's first document decides: a question
    is in the same half of every file, as long as no other question joins its document with others. Raises Problem
    INVALID_REQUEST where a half has too few groups.
    """
    names = grouped([(one.question, one.sources) for one in questions])
    held_out = [_is_held_out(name) for name in names]
    made = Halves(
        tuned=[one for one, held in zip(questions, held_out, strict=True) if not held],
        held_out=[one for one, held in zip(questions, held_out, strict=True) if held],
        groups=[name for name, held in zip(names, held_out, strict=True) if held],
    )
    counts = len({name for name, held in zip(names, held_out, strict=True) if not held}), len(set(made.groups))
    if min(counts) < FEWEST:
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"The set is too small to tune on: its questions are about {sum(counts):,} separate documents, "
            f"{counts[0]:,} in the half to tune on and {counts[1]:,} in the held-out half, and each half needs "
            f"{FEWEST}. Add questions with the 'sources' that answer them until they are about {3 * FEWEST} documents "
            "or more; `sluice evaluate` measures smaller sets.",
        )
    return made


def _is_held_out(name: str) -> bool:
    return bool(hashlib.sha256(name.encode()).digest()[0] & 1)
