"""A segment: some rows of a table with all that a search needs of them. It never changes."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.retriever.serving.hashing import hashes_of
from services.retriever.serving.postings import Postings, TermSets
from services.retriever.serving.vectors import Vectors
from services.retriever.stores.lance.rows import ALLOWED, TERMS, Row

__all__ = ["Lists", "Segment"]

KEPT_MASKS: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Which `rows` have a list of principals. Row `parents[i]` lists the principal with the number `principals[i]`."""

    rows: NDArray[np.intp]
    parents: NDArray[np.int64]
    principals: NDArray[np.int64]
    names: Mapping[str, int]

    def seen_by(self, readers: Collection[str], count: int) -> NDArray[np.bool_]:
        """Which of the segment's `count` rows one of these principals may see."""
        wanted = np.zeros(len(self.names), np.bool_)
        wanted[[self.names[principal] for principal in readers if principal in self.names]] = True
        seen = np.ones(count, np.bool_)
        seen[self.rows] = False
        seen[self.parents[wanted[self.principals]]] = True
        return seen


@dataclass(frozen=True, eq=False)
class Segment:
    """`rows` has one chunk a column, without vectors, in the order of the arrays."""

    rows: pa.Table
    vectors: Vectors
    postings: Postings
    term_sets: TermSets
    keys: NDArray[np.uint64]
    """The hashes of the rows' ids."""
    name: str = ""
    """Of its files in the cache; empty where there are none."""
    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Of filters that were asked for last, by their text."""

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @classmethod
    def build(cls, rows: pa.Table, vectors: Vectors) -> "Segment":
        rows = _single(rows)
        postings, term_sets = Postings.build(rows[TERMS].chunk(0))
        return cls(rows, vectors, postings, term_sets, hashes_of(rows["id"].to_pylist()))

    @classmethod
    def merge(
        cls, parts: Sequence["Segment"], alive: Sequence[NDArray[np.bool_]], mean: NDArray[np.float32] | None
    ) -> "Segment":
        """The rows that are alive, in their order. The mean is that of their vectors where none is given."""
        kept = [np.flatnonzero(mask) for mask in alive]
        new_rows, first = [], 0
        for mask, rows in zip(alive, kept, strict=True):
            mapped = np.full(len(mask), -1, np.int64)
            mapped[rows] = np.arange(first, first + len(rows))
            new_rows.append(mapped)
            first += len(rows)

        def joined(arrays: Iterator[NDArray]) -> NDArray:  # type: ignore[type-arg]
            return np.concatenate([array[rows] for array, rows in zip(arrays, kept, strict=True)])

        tables = [part.rows.take(pa.array(rows)) for part, rows in zip(parts, kept, strict=True)]
        return cls(
            _single(pa.concat_tables(tables, promote_options="default")),
            Vectors.of(joined(p.vectors.values for p in parts), joined(p.vectors.scales for p in parts), mean),
            Postings.merge([part.postings for part in parts], new_rows),
            TermSets(
                joined(part.term_sets.lengths for part in parts),
                joined(part.term_sets.distinct for part in parts),
                joined(part.term_sets.sketches for part in parts),
            ),
            joined(part.keys for part in parts),
        )

    def recoded(self, mean: NDArray[np.float32]) -> "Segment":
        vectors = self.vectors.recoded(mean)
        return self if vectors is self.vectors else replace(self, vectors=vectors, name="")

    @cached_property
    def nbytes(self) -> int:
        vectors, postings, sets = self.vectors, self.postings, self.term_sets
        arrays = (
            *(vectors.values, vectors.scales, vectors.codes),
            *(postings.terms, postings.starts, postings.rows, postings.counts),
            *(sets.lengths, sets.distinct, sets.sketches, self.keys),
        )
        return int(self.rows.nbytes) + sum(array.nbytes for array in arrays)

    @cached_property
    def columns(self) -> Mapping[str, pa.Array]:
        return {name: column.chunk(0) for name, column in zip(self.rows.column_names, self.rows.columns, strict=True)}

    @cached_property
    def revisions(self) -> NDArray[np.int64]:
        return self._numbers("revision")

    @cached_property
    def written(self) -> NDArray[np.int64]:
        """When each row was written, milliseconds since the epoch."""
        return self._numbers("written_ms")

    @cached_property
    def lists(self) -> "Lists | None":
        """Who may see which rows; None where everybody may see all."""
        column = self.columns.get(ALLOWED)
        if column is None or column.null_count == len(column):
            return None
        encoded = column.flatten().dictionary_encode()
        return Lists(
            rows=np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)),
            parents=np.asarray(pc.list_parent_indices(column).to_numpy(zero_copy_only=False), dtype=np.int64),
            principals=np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64),
            names={name: number for number, name in enumerate(encoded.dictionary.to_pylist())},
        )

    @cached_property
    def _by_key(self) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        order = np.argsort(self.keys)
        return self.keys[order], order

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The row with each key, -1 where none has it."""
        ordered, order = self._by_key
        if not len(ordered):
            return np.full(len(keys), -1, np.intp)
        places = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
        return np.where(ordered[places] == keys, order[places], -1)

    def row(self, number: int, columns: Sequence[str]) -> Row:
        arrays = self.columns
        return {name: arrays[name][number].as_py() if name in arrays else None for name in columns}

    def mask(self, key: str) -> NDArray[np.bool_] | None:
        return self.masks.get(key)

    def keep_mask(self, key: str, mask: NDArray[np.bool_]) -> None:
        """Several threads may do so at once."""
        while len(self.masks) >= KEPT_MASKS:
            self.masks.pop(next(iter(self.masks)), None)
        self.masks[key] = mask

    def _numbers(self, column: str) -> NDArray[np.int64]:
        return np.asarray(self.columns[column].to_numpy(zero_copy_only=False), dtype=np.int64)


def _single(rows: pa.Table) -> pa.Table:
    """With one chunk a column, also without rows."""
    rows = rows.combine_chunks()
    if rows.num_rows:
        return rows
    return pa.table([pa.array([], column.type) for column in rows.columns], schema=rows.schema)
