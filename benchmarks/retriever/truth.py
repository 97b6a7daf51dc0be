"""What a perfect index would find: every vector compared with every question."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.retriever.corpus import PASSAGES, Corpus, Question

__all__ = ["nearest"]


def nearest(
    corpus: Corpus, questions: Sequence[Question], permille: Sequence[int], depth: int
) -> dict[int, list[list[str]]]:
    """By filter, for each question the ids of the `depth` nearest passages whose number is below `permille`."""
    asked = np.stack([question.vector for question in questions])
    best = {limit: _Best(len(questions), depth) for limit in permille}
    for block in corpus.blocks(words=False):
        near = asked @ block.vectors.T
        for limit, kept in best.items():
            kept.add(np.where(block.permille < limit, near, -np.inf), block.first)
    return {limit: kept.ids() for limit, kept in best.items()}


class _Best:
    """The nearest so far, by question."""

    def __init__(self, questions: int, depth: int) -> None:
        self._depth = depth
        self._near: npt.NDArray[np.float32] = np.full((questions, depth), -np.inf, dtype=np.float32)
        self._rows = np.full((questions, depth), -1, dtype=np.int64)

    def add(self, near: npt.NDArray[np.float32], first: int) -> None:
        top = np.argpartition(near, -self._depth, axis=1)[:, -self._depth :]
        together = np.hstack([self._near, np.take_along_axis(near, top, axis=1)])
        rows = np.hstack([self._rows, top + first])
        order = np.argsort(-together, axis=1, kind="stable")[:, : self._depth]
        self._near = np.take_along_axis(together, order, axis=1)
        self._rows = np.take_along_axis(rows, order, axis=1)

    def ids(self) -> list[list[str]]:
        found = zip(self._near, self._rows, strict=True)
        return [
            [f"d{row // PASSAGES}:{row % PASSAGES}" for score, row in zip(near, rows, strict=True) if score > -np.inf]
            for near, rows in found
        ]
