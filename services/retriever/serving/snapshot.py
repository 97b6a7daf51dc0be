"""A collection at one version of its table, and the snapshot that follows when rows come.

A key has one row, the newest: a row that replaces it, or a tombstone, ends it. So the rows that a table got since a
snapshot tell all that has changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.retriever.ranking.lexical import K1, B
from services.retriever.serving.hashing import hashes_of
from services.retriever.serving.segment import Segment
from services.retriever.stores.columns import Column
from services.retriever.stores.lance.rows import Row

__all__ = ["Origin", "RowHeads", "Snapshot"]

T = TypeVar("T", bound=np.generic)

_NOTHING = (np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a snapshot was read from: the table's own id, version, schema and columns, the greatest address of its rows,
    and how many older rows it has of keys that are there more than once."""

    table: str
    version: int
    schema: pa.Schema
    columns: Mapping[str, Column]
    dimension: int
    last_row: int = -1
    doubled: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RowHeads:
    """What decides which rows count, as arrays: hash of the id, revision, time of writing, whether it is a chunk."""

    keys: NDArray[np.uint64]
    revisions: NDArray[np.int64]
    written: NDArray[np.int64]
    is_chunk: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: pa.Table) -> "RowHeads":
        def numbers(name: str) -> NDArray[np.int64]:
            return np.asarray(rows[name].to_numpy(), dtype=np.int64)

        chunks = np.asarray(rows["position"].is_valid().to_numpy(), dtype=np.bool_)
        return cls(hashes_of(rows["id"].to_pylist()), numbers("revision"), numbers("written_ms"), chunks)

    def newest(self) -> NDArray[np.bool_]:
        """Which of the rows with one key is the newest."""
        order = np.lexsort((self.written, self.revisions, self.keys))
        last = np.ones(len(order), np.bool_)
        last[:-1] = self.keys[order][1:] != self.keys[order][:-1]
        mask = np.zeros(len(order), np.bool_)
        mask[order] = last
        return mask


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Rows are numbered through all segments: those of a segment begin at its offset.

    All segments have the same mean, that of `mean_of` rows.
    """

    origin: Origin
    segments: Sequence[Segment] = ()
    alive: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    mean_of: int = 0

    @classmethod
    def of(cls, origin: Origin, segments: Sequence[Segment]) -> "Snapshot":
        """Of all rows of a table, with the mean of the first segment. The newest row of a key counts."""
        heads = [(segment.keys, segment.revisions, segment.written) for segment in segments]
        keys, revisions, written = (np.concatenate(parts) for parts in zip(*heads, strict=True)) if heads else _NOTHING
        alive = RowHeads(keys, revisions, written, np.ones(len(keys), np.bool_)).newest()
        return cls(origin, tuple(segments), alive, len(segments[0]) if segments else 0)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each segment begins, and the end."""
        return np.concatenate([[0], np.cumsum([len(segment) for segment in self.segments])]).astype(np.int64)

    @cached_property
    def passages(self) -> int:
        return int(np.count_nonzero(self.alive))

    @cached_property
    def whole(self) -> bool:
        """Whether all rows are alive."""
        return self.passages == len(self.alive)

    @cached_property
    def lengths(self) -> NDArray[np.uint32]:
        parts = [segment.term_sets.lengths for segment in self.segments]
        return np.concatenate(parts) if parts else np.empty(0, np.uint32)

    @cached_property
    def average_length(self) -> float:
        total = int(self.lengths.sum(where=self.alive, dtype=np.int64))
        return total / self.passages if self.passages else 1.0

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """BM25's part of each passage that depends on its length."""
        return (self.lengths * np.float32(K1 * B / self.average_length) + np.float32(K1 * (1 - B))).astype(np.float32)

    @cached_property
    def nbytes(self) -> int:
        # The mask, the lengths, the norms and, while a search runs, the distances and the scores.
        return sum(segment.nbytes for segment in self.segments) + len(self.alive) * (1 + 4 + 4 + 2 + 4)

    def seen_by(self, readers: frozenset[str] | None) -> "Snapshot":
        """As if the collection had only the rows that a reader with these principals may see: the others are not alive.

        For searching alone: it does not follow the table.
        """
        if readers is None or all(segment.lists is None for segment in self.segments):
            return self
        alive = self.alive.copy()
        for segment, offset in zip(self.segments, self.offsets, strict=False):
            if segment.lists is not None:
                alive[offset : offset + len(segment)] &= segment.lists.seen_by(readers, len(segment))
        return replace(self, alive=alive)

    def alive_in(self, index: int) -> NDArray[np.bool_]:
        return self.alive[self.offsets[index] : self.offsets[index + 1]]

    def locate(self, rows: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """For each row the index of its segment, and its number there."""
        indices = self.offsets.searchsorted(rows, side="right") - 1
        return indices.tolist(), (rows - self.offsets[indices]).tolist()

    def gather(self, rows: NDArray[np.int64], array_of: Callable[[Segment], NDArray[T]]) -> NDArray[T]:
        """The elements of rows, in ascending order, in what each segment has an array of."""
        bounds = rows.searchsorted(self.offsets)
        parts = [
            array_of(segment)[rows[first:last] - offset]
            for segment, offset, first, last in zip(self.segments, self.offsets, bounds, bounds[1:], strict=False)
            if first < last
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def values(self, rows: NDArray[np.int64], column: str) -> list[Any]:
        """What a column that every collection has has for rows in ascending order: faster than `cells` for many."""
        bounds = rows.searchsorted(self.offsets).tolist()
        found: list[Any] = []
        for segment, offset, first, last in zip(self.segments, self.offsets, bounds, bounds[1:], strict=False):
            if first < last:
                found += segment.columns[column].take(pa.array(rows[first:last] - offset)).to_pylist()
        return found

    def cells(self, rows: NDArray[np.int64], columns: Sequence[str]) -> list[Row]:
        """What the columns have for each row; None in a segment that was written before the table had the column."""
        return [self.segments[index].row(number, columns) for index, number in zip(*self.locate(rows), strict=True)]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row that is alive with each key, -1 where there is none."""
        found = np.full(len(keys), -1, np.int64)
        for segment, offset in zip(self.segments, self.offsets, strict=False):
            rows = segment.find(keys)
            there = np.flatnonzero(rows >= 0)
            there = there[self.alive[rows[there] + offset]]
            found[there] = rows[there] + offset
        return found

    def news(self, heads: RowHeads) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Of rows that the table has got: which are chunks that count from now on, and the rows that they and the
        tombstones end. A row that was only moved, as by a compaction, changes nothing."""
        held = self.find(heads.keys)
        known = held >= 0
        revisions, written = self._versions(held[known])
        newer = heads.newest()
        later = (heads.revisions[known] > revisions) | (
            (heads.revisions[known] == revisions) & (heads.written[known] > written)
        )
        newer[known] &= later
        return newer & heads.is_chunk, held[newer & known]

    def following(self, origin: Origin, ended: NDArray[np.int64], fresh: Segment | None) -> "Snapshot":
        """With the rows that ended and a segment of new ones."""
        alive = self.alive.copy()
        alive[ended] = False
        if fresh is None or not len(fresh):
            return replace(self, origin=origin, alive=alive)
        alive = np.concatenate([alive, np.ones(len(fresh), np.bool_)])
        return replace(self, origin=origin, segments=(*self.segments, fresh), alive=alive)

    def _versions(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Revisions and times of writing."""
        revisions, written = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        for index, segment in enumerate(self.segments):
            inside = np.flatnonzero((rows >= self.offsets[index]) & (rows < self.offsets[index + 1]))
            local = rows[inside] - self.offsets[index]
            revisions[inside], written[inside] = segment.revisions[local], segment.written[local]
        return revisions, written
