"""Search by words in a snapshot: exact BM25 over the passages that are alive."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.retriever.ranking.lexical import TermStatistics, WeightedTerm
from services.retriever.serving.hashing import hash_of
from services.retriever.serving.postings import Posting
from services.retriever.serving.rows import Rows, distinct
from services.retriever.serving.snapshot import Snapshot
from services.retriever.stores.limits import COUNTED

__all__ = ["FormPostings", "best_by_words", "count_terms_in", "find_forms", "most", "statistics_of"]


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.scores = np.zeros(0, np.float32)

    def zeros(self, rows: int) -> NDArray[np.float32]:
        """Zero on entry; whoever writes to it makes it zero again."""
        if len(self.scores) < rows:
            self.scores = np.zeros(rows + rows // 4, np.float32)
        return self.scores[:rows]


_scratch = _Scratch()


@dataclass(frozen=True, slots=True, eq=False)
class FormPostings:
    """Where a form is: the postings in each segment, and in how many passages that are alive."""

    segments: Sequence[Posting]
    frequency: int


def find_forms(snapshot: Snapshot, forms: Iterable[str]) -> dict[str, FormPostings]:
    return {form: _find(snapshot, form) for form in dict.fromkeys(forms)}


def _find(snapshot: Snapshot, form: str) -> FormPostings:
    postings = [segment.postings.find(hash_of(form)) for segment in snapshot.segments]
    if snapshot.whole:
        return FormPostings(postings, sum(len(rows) for rows, _ in postings))
    frequency = sum(
        int(np.count_nonzero(snapshot.alive_in(index)[rows])) for index, (rows, _) in enumerate(postings) if len(rows)
    )
    return FormPostings(postings, frequency)


def statistics_of(snapshot: Snapshot, found: Mapping[str, FormPostings]) -> TermStatistics:
    """The statistics that passages are ranked with. As for a search on disk, no form counts for more than COUNTED."""
    frequencies = {form: min(one.frequency, COUNTED) for form, one in found.items()}
    return TermStatistics(snapshot.passages, snapshot.average_length, frequencies)


def best_by_words(
    snapshot: Snapshot, found: Mapping[str, FormPostings], allowed: NDArray[np.bool_] | None, depth: int
) -> Rows:
    """The rows that hold the forms best, at most `depth`, best first. `allowed` are all that count, None for all rows.

    Rare forms come first. Once the rows that hold only the forms that are left cannot be among the best, these forms
    score what is found already (MaxScore: Turtle and Flood, "Query Evaluation: Strategies and Optimizations", 1995).
    """
    exact = TermStatistics(snapshot.passages, snapshot.average_length)
    forms = sorted((one for one in found.values() if one.frequency), key=lambda one: one.frequency)
    weights = [exact.rarity(one.frequency) for one in forms]
    scores = _scratch.zeros(len(snapshot.alive))
    touched: list[Rows] = []
    try:
        for number, (form, weight) in enumerate(zip(forms, weights, strict=True)):
            left = sum(weights[number:])
            # What is found already scores less than its forms' weights.
            if number and sum(weights[:number]) > left and _is_decided(scores, touched, left, depth):
                rows = _all_of(scores, touched)
                touched = [rows]
                scores[rows] += weight * _impacts(snapshot, rows, form)
                continue
            for rows, counts in _allowed(snapshot, form, allowed):
                scores[rows] += weight * (counts / (counts + snapshot.norms[rows]))
                touched.append(rows)
        rows = _all_of(scores, touched)
        return rows[most(scores[rows], depth)]
    finally:
        for rows in touched:
            scores[rows] = 0


def count_form(snapshot: Snapshot, rows: Rows, form: FormPostings) -> NDArray[np.float32]:
    """How often each of the rows, in ascending order, holds the form."""
    counts = np.zeros(len(rows), np.float32)
    bounds = np.searchsorted(rows, snapshot.offsets)
    for index, (held, often) in enumerate(form.segments):
        first, last = bounds[index], bounds[index + 1]
        if not len(held) or first == last:
            continue
        local = (rows[first:last] - snapshot.offsets[index]).astype(np.uint32)
        places = np.minimum(np.searchsorted(held, local), len(held) - 1)
        counts[first:last] = np.where(held[places] == local, often[places], 0)
    return counts


def count_terms_in(
    rows: Rows, snapshot: Snapshot, terms: Sequence[WeightedTerm], found: Mapping[str, FormPostings]
) -> NDArray[np.float64]:
    """How often each row, in ascending order, holds each term: (rows, terms). The most frequent of its forms counts."""
    counts = np.zeros((len(rows), len(terms)))
    for column, weighted in enumerate(terms):
        for form in weighted.term.forms:
            if found[form].frequency:
                np.maximum(counts[:, column], count_form(snapshot, rows, found[form]), out=counts[:, column])
    return counts


def most(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """The places of the greatest scores, greatest first."""
    if len(scores) <= count:
        return np.argsort(-scores, kind="stable")
    places = np.argpartition(scores, len(scores) - count)[len(scores) - count :]
    return places[np.argsort(-scores[places], kind="stable")]


FEW: Final = 32
"""Sorting so small a share of all rows takes less than reading the scores of all."""

DECIDED_ROWS: Final = 20_000
"""Rows above which looking up what is found already in the rest takes longer than scoring the rest."""


def _is_decided(scores: NDArray[np.float32], touched: Sequence[Rows], left: float, depth: int) -> bool:
    """Whether what is not touched yet, and can score at most `left`, is out of reach."""
    total = sum(map(len, touched))
    if not depth <= total <= DECIDED_ROWS:
        return False
    # Rows that are touched twice can only raise the score that is compared, and to tell them apart takes longer.
    if _score_at(depth, np.concatenate([scores[rows] for rows in touched])) <= left:
        return False
    return len(touched) < 2 or _score_at(depth, scores[_all_of(scores, touched)]) > left


def _score_at(depth: int, scores: NDArray[np.float32]) -> float:
    """The depth-th best of scores above 0; 0 where there are fewer."""
    return float(np.partition(scores, len(scores) - depth)[len(scores) - depth]) if len(scores) >= depth else 0.0


def _impacts(snapshot: Snapshot, rows: Rows, form: FormPostings) -> NDArray[np.float32]:
    counts = count_form(snapshot, rows, form)
    return counts / (counts + snapshot.norms[rows])


def _allowed(
    snapshot: Snapshot, form: FormPostings, allowed: NDArray[np.bool_] | None
) -> Iterable[tuple[Rows, NDArray[np.float32]]]:
    for offset, (held, often) in zip(snapshot.offsets, form.segments, strict=False):
        if not len(held):
            continue
        rows, counts = held + offset, often.astype(np.float32)
        if allowed is not None:
            inside = allowed[rows]
            rows, counts = rows[inside], counts[inside]
        yield rows, counts


def _all_of(scores: NDArray[np.float32], touched: Sequence[Rows]) -> Rows:
    """The rows that are touched, in ascending order: sorted, or found among all where they are many."""
    if len(touched) < 2:
        return touched[0] if touched else np.empty(0, np.int64)
    if sum(map(len, touched)) > len(scores) / FEW:
        return np.flatnonzero(scores > 0)
    return distinct(touched)
