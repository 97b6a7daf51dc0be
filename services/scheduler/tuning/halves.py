"""Questions in two halves: trials see the first, and the second is kept to compare at the end."""

import hashlib
from collections.abc import Sequence
from typing import Final

from services.scheduler.evaluation.questions import Question
from shared.contracts.problems import Problem, ProblemType

__all__ = ["FEWEST", "halves"]

FEWEST: Final = 20
"""Questions in a half. With fewer the interval of a difference says nothing."""


def halves(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """The questions to tune on and the held-out ones, each in the order of the input.

    A hash of its text decides for each question, whatever its case and spaces, so that a question is in the same half
    of every file and no repetition of it is in the other. Raises Problem INVALID_REQUEST where a half has too few.
    """
    tuned: list[Question] = []
    held_out: list[Question] = []
    for question in questions:
        (held_out if _is_held_out(question.question) else tuned).append(question)
    fewest = min(len({_folded(one.question) for one in half}) for half in (tuned, held_out))
    if fewest < FEWEST:
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"Tuning needs at least {FEWEST} different questions in each half, and one half has {fewest}: "
            f"give about {3 * FEWEST} questions or more.",
        )
    return tuned, held_out


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_held_out(text: str) -> bool:
    return bool(hashlib.sha256(_folded(text).encode()).digest()[0] & 1)
