"""One search of a Lance table: by meaning and by words to the same depth, and one ranking of both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from lancedb.query import AsyncFTSQuery, AsyncVectorQuery, MatchQuery
from lancedb.table import AsyncTable
from numpy.typing import NDArray

from services.retriever.ranking.lexical import absent_identifiers, weigh_terms
from services.retriever.ranking.ranker import Candidate, RankOptions, rank
from services.retriever.stores.base import Hits, Vector, unit
from services.retriever.stores.hits import HIT_COLUMNS, hits_of
from services.retriever.stores.lance.rows import SECTION, TERMS, Row, terms_of, without_outdated
from services.retriever.stores.lance.statistics import TableStatistics
from services.retriever.stores.limits import DEPTH, MOST_TERMS
from shared.analysis.terms import question_terms
from shared.contracts.retrieval import SearchMode
from shared.tasks import task_group

__all__ = ["TableSearch"]

NPROBES: Final = 20
"""Partitions of the vector index that a search reads; more where a filter leaves too few results."""
REFINED: Final = 80
"""At least so many candidates of the index are ranked again by their full vectors, and three times as many as wanted.

Of the 40 nearest, which a hybrid search for 10 looks at, twice as many find 98 %, three times as many 99.8 %.
"""
REFINED_FILTERED: Final = 320
"""The same where a filter holds: what is left lies further away, where the index tells less. Of a million passages, of
which a filter keeps a hundredth, 80 candidates find 85 % of the nearest ten and 320 find 99 %.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSearch:
    """Searches rows that match `predicate`, in SQL. `schema` is the table's."""

    table: AsyncTable
    schema: pa.Schema
    predicate: str | None
    statistics: TableStatistics

    async def run(self, text: str, vector: Vector | None, *, top_k: int, options: RankOptions) -> Hits:
        """The vector is None for a search by words alone."""
        asked = unit(vector) if vector is not None else None
        depth = max(DEPTH, top_k)
        terms = question_terms(text, await self.statistics.languages(self.table))[:MOST_TERMS]
        forms = [form for term in terms for form in term.forms] if options.mode is not SearchMode.VECTOR else []
        statistics, near, found = await _together(
            self.statistics.of(self.table, self._searched, forms),
            self._by_vector(asked, depth),
            self._by_words(forms, depth, vectors=asked is not None),
        )
        # A commit may lie between the two readings of the table.
        near, found = without_outdated(near, found)
        rows = {row["id"]: row for row in (*near, *found)}
        weighted = weigh_terms(terms, statistics) if forms else []
        ranked = rank(
            [_candidate(row, asked) for row in rows.values()],
            weighted,
            statistics.average_length,
            options=options,
            top_k=top_k,
        )
        return Hits(hits_of(ranked, rows, section=SECTION), absent=absent_identifiers(weighted))

    @property
    def _searched(self) -> str:
        """The column that is searched by words."""
        return TERMS if TERMS in self.schema.names else "text"

    async def _by_vector(self, vector: NDArray[np.float32] | None, depth: int) -> list[Row]:
        """The nearest rows, with their vectors."""
        if vector is None:
            return []
        query = self.table.vector_search(vector).distance_type("cosine").minimum_nprobes(NPROBES).maximum_nprobes(0)
        refined = REFINED_FILTERED if self.predicate else REFINED
        return await self._rows(
            query.refine_factor(max(3, math.ceil(refined / depth))), depth, "_distance", vectors=True
        )

    async def _by_words(self, forms: Sequence[str], depth: int, *, vectors: bool) -> list[Row]:
        """The rows that hold the forms best, by BM25."""
        if not forms:
            return []
        query = self.table.query().nearest_to_text(MatchQuery(" ".join(forms), self._searched))
        return await self._rows(query, depth, "_score", vectors=vectors)

    async def _rows(
        self, query: AsyncVectorQuery | AsyncFTSQuery, depth: int, score: str, *, vectors: bool
    ) -> list[Row]:
        columns = ["id", *HIT_COLUMNS, *(name for name in (TERMS, SECTION) if name in self.schema.names)]
        if self.predicate:
            query = query.where(self.predicate)
        found = await query.select([*columns, score, *(["vector"] if vectors else [])]).limit(depth).to_arrow()
        rows: list[dict[str, Any]] = found.select(columns).to_pylist()
        if vectors and rows:
            for row, vector in zip(rows, _matrix(found["vector"]), strict=True):
                row["vector"] = vector
        return list(rows)


async def _together(*operations: Any) -> list[Any]:
    async with task_group() as group:
        tasks = [group.create_task(operation) for operation in operations]
    return [task.result() for task in tasks]


def _candidate(row: Row, vector: NDArray[np.float32] | None) -> Candidate:
    own = None if vector is None else unit(row["vector"])
    return Candidate(
        key=row["id"],
        document_id=row["document_id"],
        position=int(row["position"]),
        terms=terms_of(row),
        similarity=None if own is None or vector is None else float(own @ vector),
        vector=own,
    )


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(len(column), -1)
