"""Keeps the segments of a collection few, and their codes comparable.

Small segments, as commits make them, are merged at once; large ones beside the searches, while commits go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.retriever.serving.segment import Segment
from services.retriever.serving.snapshot import Snapshot

__all__ = ["FULL_ROWS", "Merge", "is_due", "merge_large", "merge_small"]

SMALL_ROWS: Final = 8_000
"""Rows that are merged at once: it takes some 50 ms."""

FULL_ROWS: Final = 200_000
"""Rows of a segment that is merged no more, unless many of its rows are dead."""

RATIO: Final = 4
"""A segment is merged with those after it where it is not so many times as large."""

MOST_DEAD: Final = 0.25
"""Share of dead rows from which on a segment is written anew."""

MEAN_GROWTH: Final = 4
"""Times as many rows as a mean was made of, from which on it is made anew."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """Segments and what replaces them. `sources` are for each new row its row in the snapshot that was merged."""

    merged_from: Snapshot
    segments: Sequence[Segment]
    sources: NDArray[np.int64]
    replaced: int
    """How many segments, from the first on."""
    mean_of: int

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """To a snapshot that may be a later one. It stays as it is where what was merged is no more in it."""
        if snapshot.segments[: self.replaced] != self.merged_from.segments[: self.replaced]:
            return snapshot
        rest = snapshot.segments[self.replaced :]
        mean = self.segments[0].vectors.mean if self.segments else None
        if mean is not None:
            rest = tuple(segment.recoded(mean) for segment in rest)
        alive = np.concatenate([snapshot.alive[self.sources], snapshot.alive[snapshot.offsets[self.replaced] :]])
        return replace(snapshot, segments=(*self.segments, *rest), alive=alive, mean_of=self.mean_of)


def merge_small(snapshot: Snapshot) -> Snapshot:
    """With the small segments at its end merged."""
    if not snapshot.segments:
        return snapshot
    first = len(snapshot.segments)
    while first and len(snapshot.segments[first - 1]) <= SMALL_ROWS:
        first -= 1
    masks = [snapshot.alive_in(index) for index in range(first, len(snapshot.segments))]
    groups = _groups(masks, SMALL_ROWS)
    grown = not first and snapshot.passages >= MEAN_GROWTH * snapshot.mean_of
    if not grown and all(len(group) == 1 for group in groups):
        return _with_mean(snapshot)
    small = snapshot.segments[first:]
    segments, alive = _merged(small, masks, groups)
    if grown and segments:
        largest = max(segments, key=len)
        mean = largest.vectors.of(largest.vectors.values, largest.vectors.scales, None).mean
        segments = [segment.recoded(mean) for segment in segments]
    new = replace(
        snapshot,
        segments=(*snapshot.segments[:first], *segments),
        alive=np.concatenate([snapshot.alive[: snapshot.offsets[first]], *alive]),
        mean_of=snapshot.passages if grown else snapshot.mean_of,
    )
    return _with_mean(new)


def is_due(snapshot: Snapshot) -> bool:
    """Whether `merge_large` has something to do."""
    count = _large(snapshot)
    masks = [snapshot.alive_in(index) for index in range(count)]
    return bool(count) and (
        _has_grown(snapshot) or any(_is_merged(group, masks) for group in _groups(masks, FULL_ROWS))
    )


def merge_large(snapshot: Snapshot) -> Merge:
    """Merge the segments but the small ones at the end. Takes a second for some 100,000 rows."""
    count = _large(snapshot)
    masks = [snapshot.alive_in(index) for index in range(count)]
    groups = _groups(masks, FULL_ROWS)
    segments, _ = _merged(snapshot.segments[:count], masks, groups)
    sources = [
        np.arange(snapshot.offsets[index], snapshot.offsets[index + 1])[
            masks[index] if _is_merged(group, masks) else slice(None)
        ]
        for group in groups
        for index in group
    ]
    mean_of = snapshot.mean_of
    if _has_grown(snapshot) and segments:
        mean_of = snapshot.passages
        largest = max(segments, key=len).vectors
        mean = largest.of(largest.values, largest.scales, None).mean
        segments = [segment.recoded(mean) for segment in segments]
    return Merge(snapshot, segments, np.concatenate(sources), count, mean_of)


def _has_grown(snapshot: Snapshot) -> bool:
    return snapshot.passages >= MEAN_GROWTH * snapshot.mean_of


def _large(snapshot: Snapshot) -> int:
    """How many segments there are up to the last one that is not small."""
    return max((index + 1 for index, one in enumerate(snapshot.segments) if len(one) > SMALL_ROWS), default=0)


def _with_mean(snapshot: Snapshot) -> Snapshot:
    """With the mean of the first segment in all of them."""
    mean = snapshot.segments[0].vectors.mean if snapshot.segments else None
    if mean is None or all(segment.vectors.mean is mean for segment in snapshot.segments):
        return snapshot
    return replace(snapshot, segments=tuple(segment.recoded(mean) for segment in snapshot.segments))


def _merged(
    segments: Sequence[Segment], masks: Sequence[Mask], groups: Sequence[Sequence[int]]
) -> tuple[list[Segment], list[Mask]]:
    kept: list[Segment] = []
    alive: list[Mask] = []
    for group in groups:
        if not _is_merged(group, masks):
            kept.append(segments[group[0]])
            alive.append(masks[group[0]])
        elif any(masks[index].any() for index in group):
            mean = segments[0].vectors.mean
            kept.append(Segment.merge([segments[i] for i in group], [masks[i] for i in group], mean))
            alive.append(np.ones(len(kept[-1]), np.bool_))
    return kept, alive


def _is_merged(group: Sequence[int], masks: Sequence[Mask]) -> bool:
    """Several segments, or one of which many rows are dead."""
    mask = masks[group[0]]
    return len(group) > 1 or bool(np.count_nonzero(mask) < (1 - MOST_DEAD) * mask.size)


def _groups(masks: Sequence[Mask], most: int) -> list[list[int]]:
    """Which segments become one, from the oldest to the newest: those of which each is less than RATIO times as large
    as all after it together. So sizes grow by that factor, and a row is merged few times."""
    alive = [int(np.count_nonzero(mask)) for mask in masks]
    groups: list[list[int]] = []
    for index in reversed(range(len(masks))):
        tail = groups[-1] if groups else []
        after = sum(alive[i] for i in tail)
        if tail and alive[index] < RATIO * after and alive[index] + after <= most:
            tail.insert(0, index)
        else:
            groups.append([index])
    return groups[::-1]
