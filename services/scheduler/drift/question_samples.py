"""Samples of the questions of each collection: of a recent window, and of the reference before it."""

import heapq
from collections.abc import Container
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from shared.contracts.kept_questions import KeptQuestion

__all__ = ["MOST_COLLECTIONS", "QuestionSample", "QuestionSamples", "SampledQuestion"]

MOST_COLLECTIONS: Final = 100
"""Collections of all tenants that are watched; those whose questions are read later are left out."""

LONGEST: Final = 2000
"""Characters of a question; models read less."""

DAY: Final = 86_400.0
HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class SampledQuestion:
    """`text` is understood on its own. Scores are 0 to 1, and None where there are none."""

    id: str
    text: str
    best: float | None
    confidence: float | None


class QuestionSample:
    """At most `most` questions of all that are added: those whose ids have the smallest hashes, so a later sample of
    almost the same questions is almost the same."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, str, SampledQuestion]] = []

    def add(self, question: SampledQuestion) -> None:
        entry = (-crc32(question.id.encode()), question.id, question)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    @property
    def questions(self) -> list[SampledQuestion]:
        return [question for *_, question in sorted(self._heap, key=lambda entry: entry[:2])]


class QuestionSamples:
    """By tenant and collection, for those in `known`. The recent window is the last `hours` before the Unix time `now`,
    and the reference the `days` before that."""

    def __init__(self, known: Container[tuple[str, str]], now: float, *, hours: float, days: float, most: int) -> None:
        self._known = known
        self._since = now - hours * HOUR
        self._from = self._since - days * DAY
        self._most = most
        self.found: dict[tuple[str, str], tuple[QuestionSample, QuestionSample]] = {}
        """The reference and the recent window of each collection."""

    def add(self, tenant: str, kept: KeptQuestion) -> None:
        text = kept.standalone[:LONGEST]
        if not text.strip() or kept.asked_at < self._from:
            return
        place = tenant, kept.collection
        if place not in self.found:
            if place not in self._known or len(self.found) >= MOST_COLLECTIONS:
                return
            self.found[place] = QuestionSample(self._most), QuestionSample(self._most)
        sampled = SampledQuestion(kept.id, text, kept.best_score, kept.confidence)
        self.found[place][kept.asked_at >= self._since].add(sampled)
