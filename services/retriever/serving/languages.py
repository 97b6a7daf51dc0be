"""The languages of the passages of a collection, from a sample."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.retriever.serving.snapshot import Snapshot
from services.retriever.stores.limits import COMMON_SECONDS, SAMPLE
from services.retriever.stores.term_statistics import is_like, spoken_languages
from shared.analysis.languages import Language

__all__ = ["SpokenLanguages"]


@dataclass(slots=True)
class SpokenLanguages:
    """What was found last. Any thread may ask; two that ask at once may both look."""

    found: Sequence[Language] = ()
    passages: int = -1
    until: float = field(default=0.0)

    def of(self, snapshot: Snapshot) -> Sequence[Language]:
        """The languages, the most common one first; looked for again after a while, and when much has changed."""
        passages, now = snapshot.passages, time.monotonic()
        if now > self.until or not is_like(self.passages, passages):
            self.found = _languages(snapshot)
            self.passages, self.until = passages, now + COMMON_SECONDS
        return self.found


def _languages(snapshot: Snapshot) -> tuple[Language, ...]:
    rows = np.flatnonzero(snapshot.alive)
    sample = rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]
    return spoken_languages([row["text"] for row in snapshot.cells(sample, ["text"])])
