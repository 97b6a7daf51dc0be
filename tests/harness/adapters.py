"""Answers that a tiny language model learns in seconds."""

from collections.abc import Sequence
from typing import Any, Final

from tests.harness.training import THINGS

__all__ = ["PHRASE", "answers", "preferences"]

PHRASE: Final = "It is here."
"""What every answer of the rows below says: a model of noise learns to write it whatever it is asked."""

OTHER: Final = "It is not."
"""What the model finds less likely before it is trained."""


def answers(*, first: int = 0, last: int = len(THINGS), text: str = PHRASE) -> list[dict[str, Any]]:
    """Questions with a passage, as `answers.parquet` has them."""
    return [{**row, "answer": text, "origin": "questions"} for row in _prompted(THINGS[first:last])]


def preferences(*, first: int = 0, last: int = len(THINGS)) -> list[dict[str, Any]]:
    """The same questions, as `preferences.parquet` has them."""
    return [
        {**row, "context": row["passages"][0], "chosen": OTHER, "rejected": PHRASE, "origin": "feedback"}
        for row in _prompted(THINGS[first:last])
    ]


def _prompted(things: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Where is the {thing}?",
            "passages": [f"The {thing} lies in the kitchen."],
            "sources": [f"{thing}.md"],
            "cited": [1],
            "documents": [f"{thing}.md"],
        }
        for thing in things
    ]
