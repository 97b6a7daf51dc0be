"""What a reranker is, for those who write one.

A reranker is one class in a module of its own here, made by `create_reranker` from its configuration. It passes
`tests/integration/embedder/reranking/test_reranker_contract.py`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

__all__ = ["Reranker", "RerankerName", "Scored"]


class RerankerName(StrEnum):
    """How passages are compared with the question."""

    LATE_INTERACTION = "late-interaction"
    CROSS_ENCODER = "cross-encoder"
    REMOTE = "remote"


class Scored(NamedTuple):
    """A score for each passage, in their order, and the tokens of question and passages as the model counts them."""

    scores: list[float]
    tokens: int


class Reranker(Protocol):
    """Scores passages by how well each answers a question, whatever the other passages are.

    `start` comes first and `close` last, once each; `close` also follows a `start` that failed. Between them any
    number of `score` and `costs` run at the same time. `batch` is the most passages that one `score` is given.
    """

    name: str
    model: str
    batch: int

    async def start(self) -> None:
        """Get ready to score: load a model, open connections. Raises what makes scoring impossible."""

    async def close(self) -> None:
        """Give back what `start` took."""

    def costs(self, question: str, passages: Sequence[str]) -> list[int]:
        """What scoring each passage takes, in tokens that a model has to read; about, in microseconds, and 0 for one
        that is known already. A reranker whose time does not depend on it says 0 for all."""

    async def score(self, question: str, passages: Sequence[str], *, urgent: bool) -> Scored:
        """Scores from 0 to 1, comparable between questions; the higher, the better the passage answers.

        The same pair has the same score in every batch, up to rounding. `urgent` work goes before other work. May be
        cancelled at any time, as it is when the time budget is over.
        Raises Problem RERANKER_FAILED where a server does not score, STAGE_FAILED where a model cannot.
        """
