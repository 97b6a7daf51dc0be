"""Questions with the passages of a prompt, and what a language model is to write: the files of answers and of
preferences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.trainer.data.rows import read_columns

__all__ = ["AnswerRow", "PreferenceRow", "PromptedRow", "read_answer_rows", "read_preference_rows"]

LISTS: Final = ("passages", "sources", "documents")
NUMBERS: Final = ("cited",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedRow:
    """A question with passages. `sources` name the document of each, and `cited` are the numbers, from 1, of those that
    answer the question."""

    question: str
    passages: tuple[str, ...]
    sources: tuple[str, ...]
    cited: tuple[int, ...]
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow(PromptedRow):
    """The answer to learn."""

    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceRow(PromptedRow):
    """A better and a worse answer."""

    chosen: str
    rejected: str


def read_answer_rows(path: Path, name: str) -> list[AnswerRow]:
    """The rows of `answers.parquet` or `test_answers.parquet` that say something.

    Raises Problem INVALID_REQUEST, which calls the file `name`.
    """
    lines = read_columns(path, name, texts=("question", "answer"), lists=LISTS, numbers=NUMBERS)
    return [
        AnswerRow(**_prompted(line), answer=line["answer"])
        for line in lines
        if _is_whole(line) and line["answer"].strip()
    ]


def read_preference_rows(path: Path, name: str) -> list[PreferenceRow]:
    """The rows of `preferences.parquet` or `test_preferences.parquet` that say something. Raises as
    `read_answer_rows`."""
    lines = read_columns(path, name, texts=("question", "chosen", "rejected"), lists=LISTS, numbers=NUMBERS)
    return [
        PreferenceRow(**_prompted(line), chosen=line["chosen"], rejected=line["rejected"])
        for line in lines
        if _is_whole(line) and line["chosen"].strip() and line["rejected"].strip()
    ]


def _is_whole(line: Mapping[str, Any]) -> bool:
    return bool(line["question"].strip()) and 0 < len(line["passages"]) == len(line["sources"])


def _prompted(line: Mapping[str, Any]) -> dict[str, Any]:
    count = len(line["passages"])
    return {
        "question": line["question"],
        "passages": tuple(line["passages"]),
        "sources": tuple(line["sources"]),
        "cited": tuple(number for number in line["cited"] if 0 < number <= count),
        "documents": tuple(line["documents"]),
    }
