"""Which of the passages that a search ranks highest are hard negatives: near to the question, and no answer to it.

The rule is the one of `mine_hard_negatives` in Sentence Transformers: of the ranks from `range_min` to `range_max`, the
highest whose similarity is at most that of the right passage times 1 - `relative_margin`. What is nearer than that may
be an answer that nobody has named.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.analysis.copies import are_copies
from shared.analysis.terms import document_terms
from shared.contracts.envelope import Passage

__all__ = ["DIGITS", "NegativeOptions", "Skipped", "Terms", "choose_negatives"]

DIGITS: Final = 4
"""Of scores and similarities, so that their last bits, which differ between runs, decide nothing."""


class Skipped(StrEnum):
    """Why a passage is no negative, as the report says it."""

    RELEVANT = "of a document that answers the question"
    TEST = "of a document of the test data"
    COPY = "a copy of the right passage, or of another negative"
    NEAR = "within the margin of the right passage"


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeOptions:
    """At most `count`, and where to look for them."""

    count: int
    relative_margin: float
    range_min: int
    range_max: int

    def limit(self, positive: float) -> float:
        """The similarity up to which a passage is a negative beside a positive of this similarity."""
        return round(positive - abs(positive) * self.relative_margin, DIGITS)


class Terms:
    """The sets of terms of texts, each computed once."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}

    def of(self, text: str) -> frozenset[str]:
        if text not in self._known:
            self._known[text] = frozenset(document_terms(text))
        return self._known[text]

    def are_copies(self, one: str, other: str) -> bool:
        """Whether two texts say the same in almost the same words."""
        return one == other or are_copies(self.of(one), self.of(other))


def choose_negatives(
    ranked: Sequence[Passage],
    positive: Passage,
    options: NegativeOptions,
    *,
    relevant: Collection[str],
    forbidden: Collection[str] = (),
    wrong: Iterable[Passage] = (),
    right: Sequence[str] = (),
    terms: Terms,
) -> tuple[list[str], Counter[Skipped]]:
    """The texts of the negatives beside a positive, the hardest first, and why other passages are none.

    `ranked` are passages in the order of the search, with the `similarity` of each. `relevant` are the names of the
    documents that answer the question, and `right` the texts of all its positives; `forbidden` documents are of the
    other side. What readers found `wrong` comes first, whatever its similarity.
    """
    skipped: Counter[Skipped] = Counter()
    chosen: list[str] = []
    limit = options.limit(positive.similarity or 0.0)

    def flaw(passage: Passage, *, judged: bool) -> Skipped | None:
        # Where else its text is counts too: a copy of what answers the question answers it.
        documents = {passage.document, *(copy.document for copy in passage.copies)}
        if not documents.isdisjoint(relevant):
            return Skipped.RELEVANT
        if not documents.isdisjoint(forbidden):
            return Skipped.TEST
        if not judged and round(passage.similarity or 0.0, DIGITS) > limit:
            return Skipped.NEAR
        if any(terms.are_copies(passage.text, other) for other in (*right, *chosen)):
            return Skipped.COPY
        return None

    in_range = ranked[options.range_min : options.range_max]
    for judged, passage in (*((True, one) for one in wrong), *((False, one) for one in in_range)):
        if len(chosen) >= options.count:
            break
        if (why := flaw(passage, judged=judged)) is None:
            chosen.append(passage.text)
        else:
            skipped[why] += 1
    return chosen, skipped
