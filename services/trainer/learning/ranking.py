"""How well a model ranks: nDCG@10 with one grade, of questions over the passages of a set of rows.

It is quick and says how training goes. It is no evaluation of a collection, whose passages are many more.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.trainer.data.rows import Row

__all__ = ["DEPTH", "Quiz", "make_quiz", "mean_ndcg"]

DEPTH: Final = 10
MOST_QUESTIONS: Final = 500
MOST_PASSAGES: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiz:
    """Questions and passages. `right` holds for each question the indices of the passages that answer it, `wrong` those
    of its negatives."""

    questions: list[str]
    passages: list[str]
    right: list[frozenset[int]]
    wrong: list[frozenset[int]]


def make_quiz(rows: Sequence[Row], *, questions: int = MOST_QUESTIONS, passages: int = MOST_PASSAGES) -> Quiz:
    """The first questions of the rows, each with all passages that answer it, among all passages of these rows.

    Passages stand in an order without meaning: a model that scores all alike gets what chance would.
    """
    answers: dict[str, list[str]] = {}
    for row in rows:
        if row.question in answers or len(answers) < questions:
            answers.setdefault(row.question, []).append(row.positive)
    texts = dict.fromkeys(text for texts in answers.values() for text in texts)
    negatives: dict[str, list[str]] = {question: [] for question in answers}
    for row in rows:
        if row.question in answers and len(texts) < passages:
            texts |= dict.fromkeys(row.negatives)
            negatives[row.question] += row.negatives
    order = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    index = {text: number for number, text in enumerate(order)}
    return Quiz(
        questions=list(answers),
        passages=order,
        right=[frozenset(index[text] for text in texts) for texts in answers.values()],
        wrong=[frozenset(index[text] for text in negatives[question]) for question in answers],
    )


def mean_ndcg(quiz: Quiz, rank: Callable[[int], Sequence[int]]) -> float:
    """The mean over the questions; `rank` gives for the number of one the first passages, the best first."""
    if not quiz.questions:
        return 0.0
    return sum(_ndcg(rank(number), right) for number, right in enumerate(quiz.right)) / len(quiz.questions)


def _ndcg(found: Sequence[int], right: frozenset[int]) -> float:
    gain = sum(1 / math.log2(place + 2) for place, index in enumerate(found[:DEPTH]) if index in right)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(len(right), DEPTH)))
