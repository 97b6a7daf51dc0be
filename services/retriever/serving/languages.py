"""The languages of the passages of a collection, from a sample."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from services.retriever.serving.snapshot import Snapshot
from services.retriever.stores.lance.statistics import SAMPLE, SPOKEN
from shared.analysis.languages import Language, detect_language

__all__ = ["SpokenLanguages"]

SECONDS: Final = 300.0


@dataclass(slots=True)
class SpokenLanguages:
    """What was found last. Any thread may ask; two that ask at once may both look."""

    found: Sequence[Language] = ()
    passages: int = -1
    until: float = field(default=0.0)

    def of(self, snapshot: Snapshot) -> Sequence[Language]:
        """The languages, the most common one first; looked for again after a while, and when much has changed."""
        passages, now = snapshot.passages, time.monotonic()
        if now > self.until or not 0.8 * self.passages <= passages <= 1.25 * self.passages:
            self.found = _languages(snapshot)
            self.passages, self.until = passages, now + SECONDS
        return self.found


def _languages(snapshot: Snapshot) -> tuple[Language, ...]:
    rows = np.flatnonzero(snapshot.alive)
    sample = rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]
    spoken = Counter(detect_language(row["text"]) for row in snapshot.cells(sample, ["text"]))
    return tuple(language for language, count in spoken.most_common() if count >= SPOKEN * len(sample))
